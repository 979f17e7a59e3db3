"""Counters in the store: what all edge processes have counted against limits. One transaction each.

Blocks; for threads. Names and windows are those of the edge's `Counters`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from headrace.gateway.store import schema

Name = tuple[str, int]

STALE_SECONDS: Final = 5.0
"""What an edge process had under way counts no more when it has been silent for so long."""

PART: Final = 4
"""Of what is left each process may claim a fourth of its share at once."""

CHUNK: Final = 500
"""Names in one question."""

KEEP_SECONDS: Final = 3600.0
"""How long counters of windows that are over stay."""


def add(connection: Connection, amounts: Mapping[Name, tuple[float, int]]) -> dict[Name, int]:
    """Add to counters: by name each window's end and an amount. The values that they have then."""
    table = schema.counters
    found = {}
    # In one order everywhere, so that two processes never wait for each other.
    for name in sorted(amounts):
        ends, amount = amounts[name]
        row = {"name": name[0], "window": name[1], "ends": ends, "value": amount}
        statement = _insert(connection, table).values(row)
        statement = statement.on_conflict_do_update(
            index_elements=[table.c.name, table.c.window],
            set_={"value": table.c.value + statement.excluded.value},
        ).returning(table.c.value)
        found[name] = int(connection.execute(statement).scalar_one())
    return found


def add_all(connection: Connection, amounts: Mapping[Name, tuple[float, int]]) -> None:
    """The same for many, without a word of what they are then."""
    if not amounts:
        return
    table = schema.counters
    statement = _insert(connection, table)
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.name, table.c.window],
        set_={"value": table.c.value + statement.excluded.value},
    )
    rows = [
        {"name": name[0], "window": name[1], "ends": amounts[name][0], "value": amounts[name][1]}
        for name in sorted(amounts)
    ]
    connection.execute(statement, rows)


class Claim(msgspec.Struct, frozen=True):
    """One request's wish: of each of these counters one more, or nothing of any."""

    unsaid: Mapping[Name, tuple[float, int]]
    """What was counted before, and is to be added whatever comes of it."""
    limits: Mapping[Name, tuple[float, int]]
    """By counter its window's end, and how high it may go."""
    processes: int
    """Among how many what is left is shared."""


class Granted(msgspec.Struct, frozen=True):
    """What came of a claim."""

    leases: Mapping[Name, int]
    """What was counted for the claimant, by counter: at least one of each, unless there was one to
    spare of what was counted before; nothing at all where one was refused."""
    values: Mapping[Name, int]


def claim(connection: Connection, asked: Claim) -> Granted:
    """Count what was wished for, and a little ahead: a part of what is left."""
    none_yet = {name: (ends, 0) for name, (ends, _) in asked.limits.items()}
    values = add(connection, none_yet | dict(asked.unsaid))
    left = {name: limit - values[name] for name, (_, limit) in asked.limits.items()}
    if any(each <= 0 for each in left.values()):
        return Granted({}, values)
    leases = {name: max(1, each // (PART * asked.processes)) for name, each in left.items()}
    more = {name: (asked.limits[name][0], lease) for name, lease in leases.items()}
    return Granted(leases, values | add(connection, more))


def claim_all(connection: Connection, asked: Sequence[Claim]) -> list[Granted]:
    """Claims of one process in turn. One that the leases of those before it cover asks no more."""
    spare: Counter[Name] = Counter()
    found = []
    for each in asked:
        if not each.unsaid and all(spare[name] > 0 for name in each.limits):
            got = Granted(dict.fromkeys(each.limits, 0), {})
        else:
            got = claim(connection, each)
            spare.update(got.leases)
        if got.leases:
            spare.subtract(each.limits.keys())
        found.append(got)
    return found


def values(
    connection: Connection, now: float, names: Sequence[Name] | None = None
) -> list[tuple[str, int, float, int]]:
    """Counters whose windows are not over, all or these: name, beginning, end, value."""
    table = schema.counters
    query = select(table.c.name, table.c.window, table.c.ends, table.c.value)
    query = query.where(table.c.ends > now)
    if names is None:
        return [tuple(row) for row in connection.execute(query)]
    found = []
    for start in range(0, len(names), CHUNK):
        wanted = {name for name, _ in names[start : start + CHUNK]}
        rows = connection.execute(query.where(table.c.name.in_(sorted(wanted))))
        found += [tuple(row) for row in rows]
    return found


def tell(connection: Connection, edge: str, here: Mapping[str, int], now: float) -> None:
    """Say what an edge process has under way, in place of what it said before."""
    table = schema.in_flight
    connection.execute(delete(table).where(table.c.edge == edge))
    if here:
        rows = [
            {"edge": edge, "name": name, "value": value, "at": now} for name, value in here.items()
        ]
        connection.execute(table.insert(), rows)


def elsewhere(connection: Connection, edge: str, now: float) -> dict[str, int]:
    """What all other edge processes have under way."""
    table = schema.in_flight
    rows = connection.execute(
        select(table.c.name, func.sum(table.c.value))
        .where(table.c.edge != edge, table.c.at > now - STALE_SECONDS)
        .group_by(table.c.name)
    )
    return {name: int(value) for name, value in rows}


def prune(connection: Connection, now: float) -> None:
    """Remove what nobody asks for any more."""
    counters, in_flight = schema.counters, schema.in_flight
    connection.execute(delete(counters).where(counters.c.ends < now - KEEP_SECONDS))
    connection.execute(delete(in_flight).where(in_flight.c.at < now - KEEP_SECONDS))


def _insert(connection: Connection, table: Any) -> Any:
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)
