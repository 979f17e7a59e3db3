"""Accounts: one row per request, written in batches; summed up, pruned. Never any content."""

import csv
import datetime
import io
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, distinct, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from headrace.external.money import MICRO
from headrace.gateway.store import schema

DAY: Final = 86400

DIMENSIONS: Final = {
    "day": "day", "model": "model", "group": "group", "organisation": "organisation",
    "cluster": "cluster", "endpoint": "endpoint", "outcome": "outcome", "user": "tenant",
}  # fmt: skip
"""What accounts are told by: as people call it, and the column."""


COLUMNS: Final = (
    "requests", "users", "failed", "prompt_tokens", "completion_tokens", "gpu_seconds", "cost",
    "mean_queue_seconds", "mean_total_seconds",
)  # fmt: skip


TOGETHER: Final = (64, 8, 1)
"""Rows of one statement. At each SQLite lets go of the interpreter's lock, and a busy event loop
takes long to give it back: with a row to a statement both took several times as long."""

Values = tuple[Any, ...]

_INSERTS: Final[dict[tuple[str, int], tuple[str, Callable[[Values], Any]]]] = {}
"""The insert of so many rows as each database has it, and what makes its parameters of all values
of the rows one after the other."""


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One request. Times are seconds; `tenant` is a pseudonym."""

    request: str
    at: float
    """When it arrived, in Unix seconds."""
    tenant: str
    organisation: str
    group: str
    model: str
    cluster: str
    endpoint: str
    status: int
    outcome: str
    prompt_tokens: int
    completion_tokens: int
    queue_seconds: float
    """Until a worker took it."""
    first_seconds: float
    """Until the answer's first byte; 0 where there was none."""
    total_seconds: float
    gpu_seconds: float
    """Its share of the time of the GPUs that it ran on."""
    cost: int = 0
    """Of an external model, in millionths of the site's currency."""


class UsageSum(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one kind, summed up."""

    by: dict[str, str]
    requests: int
    users: int
    prompt_tokens: int
    completion_tokens: int
    gpu_seconds: float
    cost: float
    """In the site's currency."""
    mean_queue_seconds: float
    mean_total_seconds: float
    failed: int
    """Those that ended with a status of 500 or more."""


def write(connection: Connection, rows: Sequence[UsageRow]) -> None:
    """Put rows into the accounts; one that is there already is not put twice."""
    values = [(*msgspec.structs.astuple(row), int(row.at // DAY)) for row in rows]
    done = 0
    for count in TOGETHER:
        sql, parameters = _insert(connection, count)
        while len(values) - done >= count:
            flat = tuple(chain.from_iterable(values[done : done + count]))
            connection.exec_driver_sql(sql, parameters(flat))
            done += count


def _insert(connection: Connection, count: int) -> tuple[str, Callable[[Values], Any]]:
    # SQLAlchemy's own handling of parameters takes several times what the database does.
    kind = connection.dialect.name
    known = _INSERTS.get((kind, count))
    if known is not None:
        return known
    dialect = sqlite if kind == "sqlite" else postgresql
    columns = (*UsageRow.__struct_fields__, "day")
    statement = dialect.insert(schema.usage).values([dict.fromkeys(columns)] * count)
    compiled = statement.on_conflict_do_nothing().compile(dialect=connection.dialect)
    names = [f"{column}_m{row}" for row in range(count) for column in columns]
    parameters: Callable[[Values], Any]
    if compiled.positiontup:
        places = {name: place for place, name in enumerate(names)}
        parameters = itemgetter(*(places[name] for name in compiled.positiontup))
    else:
        parameters = partial(_named, names)
    _INSERTS[kind, count] = made = str(compiled), parameters
    return made


def _named(names: Sequence[str], values: Values) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))


def used(connection: Connection, keys: dict[str, float]) -> None:
    """Note when keys were last used, in Unix seconds by their ids."""
    table = schema.keys
    for id in sorted(keys):
        at = keys[id]
        older = (table.c.last_used.is_(None)) | (table.c.last_used < at)
        connection.execute(update(table).where(table.c.id == id, older).values(last_used=at))


def report(
    connection: Connection,
    by: Collection[str] = (),
    *,
    since: float | None = None,
    until: float | None = None,
) -> list[UsageSum]:
    """Requests summed up by `DIMENSIONS` in the order given; of whole days in UTC.

    `since` and `until` are Unix seconds within the first and the last day. Raises KeyError for
    what is no dimension.
    """
    table = schema.usage
    columns = [table.c[DIMENSIONS[name]] for name in by]
    query = select(
        *columns,
        func.count(),
        func.count(distinct(table.c.tenant)),
        func.sum(table.c.prompt_tokens),
        func.sum(table.c.completion_tokens),
        func.sum(table.c.gpu_seconds),
        func.sum(table.c.cost),
        func.avg(table.c.queue_seconds),
        func.avg(table.c.total_seconds),
        func.count().filter(table.c.status >= 500),
    )
    if since is not None:
        query = query.where(table.c.day >= int(since // DAY))
    if until is not None:
        query = query.where(table.c.day <= int(until // DAY))
    query = query.group_by(*columns).order_by(*columns)
    return [_sum(by, row) for row in connection.execute(query) if row[len(columns)]]


def first_days(connection: Connection) -> list[int]:
    """For every user the day of the first request, counted from 1970, in order."""
    table = schema.usage
    query = select(func.min(table.c.day)).group_by(table.c.tenant)
    return sorted(int(day) for (day,) in connection.execute(query))


def prune(connection: Connection, before: float) -> int:
    """Remove the rows of days before that of `before`, in Unix seconds; how many."""
    table = schema.usage
    return connection.execute(delete(table).where(table.c.day < int(before // DAY))).rowcount


def date(day: int) -> str:
    """A day as ISO 8601 has it."""
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()


def _sum(by: Collection[str], row: Sequence[Any]) -> UsageSum:
    names = list(by)
    count, users, prompt, completion, gpu, cost, queue, total, failed = row[len(names) :]
    said = zip(names, row, strict=False)
    return UsageSum(
        by={name: date(value) if name == "day" else str(value) for name, value in said},
        requests=count,
        users=users,
        prompt_tokens=int(prompt),
        completion_tokens=int(completion),
        gpu_seconds=round(float(gpu), 3),
        cost=int(cost) / MICRO,
        mean_queue_seconds=round(float(queue), 4),
        mean_total_seconds=round(float(total), 4),
        failed=failed,
    )


def table_of(sums: Iterable[UsageSum]) -> list[dict[str, Any]]:
    """Sums as flat rows, for CSV and for people."""
    rows = []
    for each in sums:
        values = msgspec.structs.asdict(each)
        by = values.pop("by")
        rows.append({**by, **values})
    return rows


def csv_of(by: Collection[str], sums: Iterable[UsageSum]) -> str:
    """Sums as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, (*by, *COLUMNS), lineterminator="\n")
    writer.writeheader()
    for row in table_of(sums):
        writer.writerow({name: _safe(value) for name, value in row.items()})
    return text.getvalue()


def _safe(value: Any) -> Any:
    # A spreadsheet takes what begins like this for a formula; an organisation's name comes from
    # outside.
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return f"'{value}"
    return value
