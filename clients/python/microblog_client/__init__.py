"""A client of the Microblog API."""

from .client import Client
from .pager import Pager
from .problems import (
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidInputError,
    NotFoundError,
    PreconditionFailedError,
    ProblemError,
    ServerError,
    SessionEndedError,
    TooManyRequestsError,
    UnauthorizedError,
)

__all__ = [
    "Client",
    "ConflictError",
    "ForbiddenError",
    "GoneError",
    "InvalidInputError",
    "NotFoundError",
    "Pager",
    "PreconditionFailedError",
    "ProblemError",
    "ServerError",
    "SessionEndedError",
    "TooManyRequestsError",
    "UnauthorizedError",
]
