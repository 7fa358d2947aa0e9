"""Draws the panels of the Grafana dashboard in `deploy/` from what Prometheus scraped of the service."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from math import nan
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from api.config import ROOT
from benchmarks.servers import START_SECONDS, free_port

PROMETHEUS = shutil.which("prometheus")
SCRAPE_SECONDS = 5
# As Grafana computes it: four scrapes.
RATE_INTERVAL = f"{4 * SCRAPE_SECONDS}s"
UNITS = {"reqps": "requests/s", "cps": "1/s", "s": "seconds", "short": ""}
COLUMNS = 2
# As many as fit beside a panel.
LEGEND_LINES = 14
COLORS = 64


class Line(NamedTuple):
    """A line of a panel: points are times in seconds since the first scrape, and values."""

    name: str
    points: list[tuple[float, float]]


class Prometheus:
    """A running Prometheus with the configuration and the alert rules in `deploy/`."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self.began = time.time()

    def is_ready(self) -> bool:
        """Return whether it can be asked."""
        try:
            with urlopen(f"{self._url}/-/ready"):  # noqa: S310
                return True
        except OSError:
            return False

    def ask(self, path: str, **parameters: Any) -> Any:
        """Return the `data` of a response of its HTTP API."""
        with urlopen(f"{self._url}/api/v1/{path}?{urlencode(parameters)}") as response:  # noqa: S310
            return json.load(response)["data"]

    def lines(self, target: dict[str, str]) -> list[Line]:
        """Evaluate the query of a panel over the time since the start."""
        query = target["expr"].replace("$__rate_interval", RATE_INTERVAL)
        end = time.time()
        found = self.ask("query_range", query=query, start=self.began, end=end, step=SCRAPE_SECONDS)["result"]
        lines = []
        for one in found:
            values = {round(at - self.began): float(value) for at, value in one["values"]}
            steps = range(0, round(end - self.began) + 1, SCRAPE_SECONDS)
            name = target["legendFormat"].replace("{{", "{").replace("}}", "}").format_map(one["metric"])
            # Where a scrape failed, a line has a gap.
            lines.append(Line(name, [(step, values.get(step, nan)) for step in steps]))
        return lines

    def alerts(self) -> list[str]:
        """Return the names of the alerts that have fired since the start, or wait to."""
        seconds = int(time.time() - self.began) + 1
        found = self.ask("query", query=f"max_over_time(ALERTS[{seconds}s])")["result"]
        return sorted({f"{one['metric']['alertname']} ({one['metric']['alertstate']})" for one in found})


@contextmanager
def running_prometheus(service_port: int, token: str, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus, which scrapes a service that has been started with a METRICS_TOKEN."""
    configuration = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text("utf-8"))
    configuration["global"] = dict.fromkeys(configuration["global"], f"{SCRAPE_SECONDS}s")
    configuration["rule_files"] = [str(ROOT / "deploy" / name) for name in configuration["rule_files"]]
    [scrape] = configuration["scrape_configs"]
    scrape["authorization"]["credentials_file"] = str(folder / "token")
    scrape["static_configs"] = [{"targets": [f"127.0.0.1:{service_port}"]}]
    (folder / "token").write_text(token, "utf-8")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), "utf-8")
    port = free_port()
    command = [
        str(PROMETHEUS),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with subprocess.Popen(command) as process:
        try:
            prometheus = Prometheus(port)
            deadline = time.monotonic() + START_SECONDS
            while not prometheus.is_ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("Prometheus does not start.")
                time.sleep(0.1)
            yield prometheus
        finally:
            process.terminate()


def draw(prometheus: Prometheus, file: Path) -> None:
    """Draw all panels of the dashboard into a file; the legends leave out lines that are always zero."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from PIL import Image

    panels = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text("utf-8"))["panels"]
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(7 * COLUMNS, 2.6 * rows))
    figure.subplots_adjust(left=0.05, right=0.8, top=0.98, bottom=0.03, wspace=0.85, hspace=0.35)
    for place, panel in enumerate(panels, 1):
        axes = figure.add_subplot(rows, COLUMNS, place)
        axes.set_title(panel["title"], loc="left", fontsize=10)
        axes.set_ylabel(UNITS[panel["fieldConfig"]["defaults"]["unit"]], fontsize=8)
        axes.set_prop_cycle(color=colormaps["tab20"].colors)
        for line in [line for target in panel["targets"] for line in prometheus.lines(target)]:
            minutes, values = (
                [seconds / 60 for seconds, _ in line.points],
                [value for _, value in line.points],
            )
            axes.plot(
                minutes, values, label=line.name if any(value > 0 for value in values) else None, linewidth=1
            )
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
        if handles := axes.get_legend_handles_labels()[0][:LEGEND_LINES]:
            axes.legend(
                handles=handles, fontsize=6.5, loc="upper left", bbox_to_anchor=(1, 1.05), frameon=False
            )
    drawn = BytesIO()
    figure.savefig(drawn, dpi=72)
    Image.open(drawn).convert("RGB").quantize(COLORS).save(file, "PNG", optimize=True)
