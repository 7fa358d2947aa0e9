"""The context of a representation: the expanded parts and the caller."""

from dataclasses import dataclass

from marshmallow.experimental.context import Context as MarshmallowContext
from sqlalchemy import BigInteger, bindparam

# Bind parameters for the conditions of a `ViewerFlag`; a renderer sets them from the context.
VIEWER_ID = bindparam("viewer_id", type_=BigInteger())
VIEWER_SESSION_ID = bindparam("viewer_session_id", type_=BigInteger())


@dataclass(frozen=True, slots=True)
class Context:
    """The parts that a request expands, and its caller (None if anonymous)."""

    expand: frozenset[str] = frozenset()
    viewer_id: int | None = None
    viewer_session_id: int | None = None

    @property
    def shape(self) -> "Context":
        """The context with a placeholder for the caller's id; contexts of one shape have the same SQL."""
        return Context(self.expand, self.viewer_id and 1)

    @property
    def parameters(self) -> dict[str, int | None]:
        """The values of `VIEWER_ID` and `VIEWER_SESSION_ID`."""
        return {"viewer_id": self.viewer_id, "viewer_session_id": self.viewer_session_id}


# `with DumpContext(context): schema.dump(...)` passes a context to the fields.
DumpContext = MarshmallowContext[Context]


def current_context() -> Context:
    """Return the context of the running `Schema.dump`; an anonymous one if there is none."""
    return DumpContext.get(Context())
