"""How the store came to be as it is, step by step; and what brings an older one up to date."""

from pathlib import Path
from typing import Final

from sqlalchemy import inspect, text

from headrace.gateway.store.database import Database, StoreError, told

FOLDER: Final = Path(__file__).parent
VERSIONS: Final = "alembic_version"


NEWEST: Final = "0002"
"""The version that this code works with: of the last step."""


def steps() -> list[str]:
    """All versions, the newest first."""
    # Imported late: an edge that finds its store as it should be has no use for alembic.
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions()]


def version(database: Database) -> str:
    """The store's version; empty where there is nothing. Raises StoreError."""
    if database.empty:
        return ""
    with database.read() as connection:
        if not inspect(connection).has_table(VERSIONS):
            return ""
        found = connection.execute(text(f"SELECT version_num FROM {VERSIONS}")).scalar()  # noqa: S608
        return str(found or "")


def migrate(database: Database) -> str:
    """Bring the store up to date, making it where there is none. The version that it had.

    Raises StoreError, also for a store that is newer than this code.
    """
    before = version(database)
    if before == NEWEST:
        return before
    if before and before not in steps():
        raise StoreError(f"the store {database.shown} is of a newer Headrace ({before})")
    if database.path is not None and not database.path.exists():
        database.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        database.path.touch(mode=0o600)
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    with told(database.shown), database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before


def check(database: Database) -> None:
    """Raise StoreError unless the store is of the version that this code works with."""
    found = version(database)
    if found != NEWEST:
        what = f"is of version {found}, not {NEWEST}" if found else "is empty"
        raise StoreError(f"the store {database.shown} {what}: run `headrace db migrate`")


def ready(database: Database) -> None:
    """See to it that the store can be used. SQLite's file is made where there is none; what else is
    not up to date an operator must see to. Raises StoreError.
    """
    if database.is_sqlite and not version(database):
        migrate(database)
    check(database)
