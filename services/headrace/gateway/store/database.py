"""The store's database: SQLite in one file, or PostgreSQL by URL, behind one small class."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

BUSY_MILLISECONDS: Final = 10_000
"""How long SQLite waits for another writer."""

CONNECT_SECONDS: Final = 5

READ_ONLY: Final = "headrace_read"


class StoreError(Exception):
    """The store can't be used; the text is for the operator and holds no data."""


class Database:
    """Connections to the store. All methods block: an event loop calls them in threads."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.url: Final = url
        self.is_sqlite: Final = parsed.get_backend_name() == "sqlite"
        self.path: Final = Path(parsed.database or "") if self.is_sqlite else None
        """SQLite's file."""
        self.shown: Final = parsed.render_as_string(hide_password=True)
        """The URL without its password."""
        if self.is_sqlite:
            self.engine = create_engine(url, connect_args={"timeout": BUSY_MILLISECONDS / 1000})
            _sqlite(self.engine)
        else:
            self.engine = create_engine(
                url,
                pool_size=4,
                pool_pre_ping=True,
                connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "headrace"},
            )

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end. Raises StoreError."""
        with told(self.shown), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state and changes nothing. Raises StoreError."""
        with told(self.shown), self.engine.connect() as connection:
            options: dict[str, Any] = (
                {READ_ONLY: True} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
            )
            reading = connection.execution_options(**options)
            with reading.begin():
                yield reading

    @property
    def empty(self) -> bool:
        """Whether there is no table in it at all."""
        if self.path is not None and not self.path.exists():
            return True
        with told(self.shown), self.engine.connect() as connection:
            return not inspect(connection).get_table_names()

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


@contextmanager
def told(shown: str) -> Iterator[None]:
    """Raise StoreError for what the database raises, without the values in it."""
    try:
        yield
    except SQLAlchemyError as error:
        # The error's own text quotes statements and their values.
        original = getattr(error, "orig", None)
        what = type(original or error).__name__
        raise StoreError(f"the store {shown} cannot be used: {what}") from error


def _sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say, below
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "secure_delete=ON",  # what is erased shall not stay in free pages
            f"busy_timeout={BUSY_MILLISECONDS}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        # A transaction that reads first and then writes would fail where another wrote meanwhile.
        read = connection.get_execution_options().get(READ_ONLY)
        connection.exec_driver_sql("BEGIN" if read else "BEGIN IMMEDIATE")
