"""Records requests, and serves `/metrics` to Prometheus."""

import hmac
from collections.abc import Iterable
from time import perf_counter
from typing import TYPE_CHECKING

from flask import Blueprint, Flask, Response, current_app
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from api.db import db, utc_now
from api.metrics import NAMESPACE, Metrics
from api.models import WaitingEmail
from api.web.access_log import METHODS
from api.web.problems import Problem
from api.web.wrappers import current_request

if TYPE_CHECKING:
    from prometheus_client import Metric


monitoring = Blueprint("monitoring", __name__)


def init_app(app: Flask) -> None:
    """Record requests and serve the metrics, if there are any."""
    metrics: Metrics | None = app.extensions.get("metrics")
    if metrics is None:
        return

    @app.after_request
    def record(response: Response) -> Response:
        request = current_request()
        # Clients may send any method and any path: only those that the service knows become labels.
        method = request.method if request.method in METHODS else "other"
        route = request.url_rule.rule if request.url_rule else "unknown"
        metrics.record_request(method, route, response.status_code, perf_counter() - request.began)
        return response

    app.register_blueprint(monitoring)


@monitoring.get("/metrics")
def show_metrics() -> Response:
    """Respond with the metrics of all processes, in the format that the caller prefers."""
    from prometheus_client.exposition import choose_encoder

    request = current_request()
    sent = request.authorization
    token = (sent.token or "") if sent and sent.type == "bearer" else ""
    if not hmac.compare_digest(token.encode(), current_app.config["METRICS_TOKEN"].encode()):
        raise Problem("invalid_token", headers={"WWW-Authenticate": 'Bearer realm="metrics"'})
    registry = current_app.extensions["metrics"].registry()
    registry.register(WaitingEmails())
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry), content_type=content_type)


class WaitingEmails:
    """The emails that wait, which the processes share: read from the database at each scrape."""

    def collect(self) -> "Iterable[Metric]":
        """Return the metrics; none if the database is unavailable."""
        from prometheus_client.core import GaugeMetricFamily

        first = func.min(WaitingEmail.created_at, type_=WaitingEmail.created_at.type)
        query = select(WaitingEmail.kind, func.count(), first).group_by(WaitingEmail.kind)
        try:
            rows = db.session.execute(query).all()
        except SQLAlchemyError:
            db.session.rollback()
            return []
        waiting = GaugeMetricFamily(
            f"{NAMESPACE}_emails_waiting", "Emails that wait to be sent.", labels=["kind"]
        )
        oldest = GaugeMetricFamily(
            f"{NAMESPACE}_emails_oldest_waiting_seconds", "Since when the oldest one waits.", labels=["kind"]
        )
        now = utc_now()
        for kind, number, created_at in rows:
            waiting.add_metric([kind], number)
            oldest.add_metric([kind], (now - created_at).total_seconds())
        return [waiting, oldest]
