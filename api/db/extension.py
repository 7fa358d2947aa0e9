"""`db` and `migrate`, the Flask extensions, and the base class of the models."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from alembic.config import Config
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import BigInteger, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase, mapped_column, registry

from api.config import ROOT
from api.db.routing import RoutingSession
from api.db.types import UTCDateTime

NAMING_CONVENTION = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}

Id = Annotated[int, mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)]


class Base(DeclarativeBase):
    """Base class of all models; models inherit it as `db.Model`."""

    registry = registry(
        metadata=MetaData(naming_convention=NAMING_CONVENTION),
        type_annotation_map={datetime: UTCDateTime},
    )

    def update(self, changes: Mapping[str, object]) -> None:
        """Set columns to new values."""
        for name, value in changes.items():
            setattr(self, name, value)


if TYPE_CHECKING:
    from typing import TypeVar

    from flask_sqlalchemy.query import Query
    from flask_sqlalchemy.session import Session
    from sqlalchemy import Engine, Select
    from sqlalchemy.orm import scoped_session

    Entity = TypeVar("Entity")

    class db:  # noqa: N801 -- mypy cannot inherit from an attribute of an instance, only of a class.
        """The type of the instance of SQLAlchemy below, for type checkers."""

        class Model(Base):
            """Base class of all models."""

            __abstract__ = True
            query: ClassVar[Query]

        session: ClassVar[scoped_session[Session]]
        engine: ClassVar[Engine]
        engines: ClassVar[Mapping[str | None, Engine]]
        metadata: ClassVar[MetaData]
        init_app: ClassVar[Any]

        @staticmethod
        def get_or_404(entity: type[Entity], ident: Any, **kwargs: Any) -> Entity: ...

        @staticmethod
        def first_or_404(statement: Select[Entity]) -> Entity: ...

else:
    # With expire_on_commit, serializing a row after the commit would read it again.
    db = SQLAlchemy(model_class=Base, session_options={"class_": RoutingSession, "expire_on_commit": False})


class Migrations(Migrate):  # type: ignore[misc]  # Flask-Migrate has no types.
    """Flask-Migrate, for folders whose path may contain a percent sign."""

    def get_config(self, directory: str | None = None, *args: Any, **kwargs: Any) -> Config:
        """Return Alembic's configuration. Its values must have percent signs escaped, its file name not."""
        folder = str(directory or self.directory)
        config: Config = super().get_config(folder.replace("%", "%%"), *args, **kwargs)
        config.config_file_name = str(Path(folder) / "alembic.ini")
        config.file_config.read(config.config_file_name, "utf-8")
        return config


migrate = Migrations(directory=str(ROOT / "migrations"))
