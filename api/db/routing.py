"""Routes the reads of a request to a replica, once one was chosen for it (`api.db.replicas`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from flask import current_app, g
from flask_sqlalchemy.session import Session
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from api.db.replicas import Replica


class RoutingSession(Session):
    """A session that executes its statements on the replica of the request, if it has one."""

    def get_bind(self, *args: Any, **kwargs: Any) -> Engine | Connection:
        """Return the engine of the replica, or that of the primary."""
        replica = replica_of_request()
        return replica.engine if replica else super().get_bind(*args, **kwargs)


def replica_of_request() -> Replica | None:
    """Return the replica from which the current request reads; None for the primary."""
    return cast("Replica | None", g.get("replica"))


def choose_replica(last_write: float, caller: object) -> None:
    """Choose the replica from which the current request reads, if the application has one that can be used.

    The caller's last write has a position (`api.db.replicas`); `caller` is their session or address.
    """
    replicas = current_app.extensions.get("replicas")
    if replicas and "replica" not in g:
        g.replica = replicas.choose(last_write, caller, other_than=g.get("failed_replica"))


def leave_replica(error: DBAPIError) -> bool:
    """Have the request read from elsewhere if its replica failed; return whether it did.

    After the first failure another replica may be chosen, after the second the request reads from the
    primary. Returns False if the request had no replica, or if another server would fail too.
    """
    replica = replica_of_request()
    if replica is None:
        return False
    if "failed_replica" in g:
        g.replica = None
    else:
        g.failed_replica = g.pop("replica")
    return replica.has_failed(error)
