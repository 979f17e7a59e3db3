"""How the store came to be as it is, step by step; and what brings an older one up to date."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from headrace.gateway.database import Database, StoreError, told

FOLDER: Final = Path(__file__).parent


def newest() -> str:
    """The version that this code works with."""
    head = ScriptDirectory(str(FOLDER)).get_current_head()
    if head is None:
        raise StoreError("there are no migrations: the installation is broken")
    return head


def version(database: Database) -> str:
    """The store's version; empty where there is nothing. Raises StoreError."""
    if database.empty:
        return ""
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision() or ""


def migrate(database: Database) -> str:
    """Bring the store up to date, making it where there is none. The version that it had.

    Raises StoreError, also for a store that is newer than this code.
    """
    before = version(database)
    if before == newest():
        return before
    known = {script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions()}
    if before and before not in known:
        raise StoreError(f"the store {database.shown} is of a newer Headrace ({before})")
    if database.path is not None and not database.path.exists():
        database.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        database.path.touch(mode=0o600)
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    with told(database.shown), database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before


def check(database: Database) -> None:
    """Raise StoreError unless the store is of the version that this code works with."""
    found = version(database)
    if found != newest():
        what = f"is of version {found}, not {newest()}" if found else "is empty"
        raise StoreError(f"the store {database.shown} {what}: run `headrace db migrate`")


def ready(database: Database) -> None:
    """See to it that the store can be used. SQLite's file is made where there is none; what else is
    not up to date an operator must see to. Raises StoreError.
    """
    if database.is_sqlite and not version(database):
        migrate(database)
    check(database)
