"""The input that the FastAPI servers without SQLModel accept."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

Limit = Annotated[int, Query(ge=1, le=100)]


class PostCreate(BaseModel):
    """The body of a request that publishes a post."""

    body: Annotated[str, Field(min_length=1, max_length=140)]
