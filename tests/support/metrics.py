"""Reading the metrics of the service."""

from collections.abc import Iterator
from typing import Any

from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

TOKEN = "for-tests-only-for-tests-only-for-tests-only"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Samples:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        families = text_string_to_metric_families(text)
        self.all = [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: Any) -> float:
        """Return the sum of the samples with a name, without its prefix, and with these labels."""
        return sum(self._values(f"microblog_{name}", labels))

    def _values(self, name: str, labels: dict[str, Any]) -> Iterator[float]:
        for sample in self.all:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample.value


def scrape(app: Flask) -> Samples:
    """Return what an application serves to Prometheus."""
    response = app.test_client().get("/metrics", headers=BEARER)
    assert response.status_code == 200, response.text
    return Samples(response.text)
