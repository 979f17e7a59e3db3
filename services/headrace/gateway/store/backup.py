"""Backup and restore: every table but what is momentary, as JSON lines, the same of any database.

A store may be saved from SQLite and restored into PostgreSQL. Only digests of keys are in it, but
people's names are: the file is its owner's alone.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import Table, delete, func, insert, select, update

from headrace.gateway.store import migrations, schema
from headrace.gateway.store.database import Database, StoreError

FORMAT: Final = "headrace-gateway"

KEPT: Final[tuple[Table, ...]] = (
    schema.users,
    schema.groups,
    schema.members,
    schema.keys,
    schema.limits,
    schema.usage,
    schema.counters,
    schema.audit,
)
"""In the order in which they refer to each other. Who is signed in is not kept."""

BATCH: Final = 500


def lines(database: Database) -> Iterator[str]:
    """The whole backup, line by line, of one moment. Raises StoreError."""
    migrations.check(database)
    with database.read() as connection:
        yield json.dumps({"format": FORMAT, "version": migrations.NEWEST})
        count = 0
        for table in KEPT:
            for row in connection.execute(select(table)).mappings():
                count += 1
                yield json.dumps(
                    {"table": table.name, "row": {str(name): value for name, value in row.items()}}
                )
        yield json.dumps({"end": count})


def restore(database: Database, given: Iterable[str]) -> int:
    """Put a backup into the store in place of all that is there; the number of rows.

    All or nothing. Raises StoreError for what is no whole backup.
    """
    migrations.migrate(database)
    rows = iter(given)
    head = _read(next(rows, ""))
    if head.get("format") != FORMAT or head.get("version") != migrations.NEWEST:
        raise StoreError(f"not a backup of version {migrations.NEWEST}")
    tables = {table.name: table for table in KEPT}
    with database.write() as connection:
        for table in (schema.sessions, schema.in_flight, *reversed(KEPT)):
            connection.execute(delete(table))
        count = 0
        batch: list[Any] = []
        last: Table | None = None
        for line in rows:
            read = _read(line)
            if "end" in read:
                _put(connection, last, batch)
                if read["end"] != count:
                    raise StoreError(f"the backup has {count} rows and not {read['end']}")
                break
            table = tables.get(str(read.get("table")))
            if table is None or not isinstance(read.get("row"), dict):
                raise StoreError("not a line of a backup")
            if table is not last or len(batch) >= BATCH:
                _put(connection, last, batch)
                batch, last = [], table
            batch.append(read["row"])
            count += 1
        else:
            raise StoreError("the backup is not complete: its last line is missing")
        if not database.is_sqlite:
            # PostgreSQL counts on from where it was, and would give ids that are there already.
            top = select(func.coalesce(func.max(schema.audit.c.id), 0) + 1).scalar_subquery()
            connection.execute(select(func.setval("audit_id_seq", top, False)))
        connection.execute(update(schema.revision).values(number=schema.revision.c.number + 1))
    return count


def _put(connection: Any, table: Table | None, rows: list[Any]) -> None:
    if table is not None and rows:
        connection.execute(insert(table), rows)


def _read(line: str) -> dict[str, Any]:
    try:
        read = json.loads(line)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise StoreError("not a backup, or a torn one")
    return read
