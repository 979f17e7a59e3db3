"""Rows of the store made plain values."""

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, select

from headrace.gateway.policy.records import Group, Key, Limit, Source, User
from headrace.gateway.store import schema


class Records(msgspec.Struct, frozen=True):
    """All that decides about requests, of one moment."""

    revision: int
    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()
    keys: tuple[Key, ...] = ()
    limits: tuple[Limit, ...] = ()


def revision(connection: Connection) -> int:
    """The number of the last change."""
    return int(connection.execute(select(schema.revision.c.number)).scalar_one())


def everything(connection: Connection) -> Records:
    """All records."""
    return Records(
        revision(connection),
        tuple(users(connection)),
        tuple(groups(connection)),
        tuple(keys(connection)),
        tuple(limits(connection)),
    )


def users(connection: Connection, name: str | None = None) -> list[User]:
    """All users with the groups that they are in, or the one of that name."""
    users, members = schema.users, schema.members
    query = select(users).order_by(users.c.name)
    of = select(members.c.user, members.c.group)
    if name is not None:
        query, of = query.where(users.c.name == name), of.where(members.c.user == name)
    groups: dict[str, list[str]] = {}
    for user, group in connection.execute(of.order_by(members.c.user, members.c.group)):
        groups.setdefault(user, []).append(group)
    return [
        User(**row, groups=tuple(groups.get(row["name"], ()))) for row in _rows(connection, query)
    ]


def sources(connection: Connection, user: str) -> dict[str, Source]:
    """The groups that somebody is in, and who says so."""
    members = schema.members
    query = select(members.c.group, members.c.source).where(members.c.user == user)
    return {group: Source(source) for group, source in connection.execute(query)}


def groups(connection: Connection, name: str | None = None) -> list[Group]:
    """All groups, or the one of that name."""
    query = select(schema.groups).order_by(schema.groups.c.name)
    if name is not None:
        query = query.where(schema.groups.c.name == name)
    return [msgspec.convert(row, Group) for row in _rows(connection, query)]


def keys(connection: Connection, *, id: str | None = None, owner: str | None = None) -> list[Key]:
    """All keys, or the one of an id, or those of an owner; the newest first."""
    query = select(schema.keys).order_by(schema.keys.c.created.desc(), schema.keys.c.id)
    if id is not None:
        query = query.where(schema.keys.c.id == id)
    if owner is not None:
        query = query.where(schema.keys.c.owner == owner)
    return [msgspec.convert(row, Key) for row in _rows(connection, query)]


def limits(connection: Connection) -> list[Limit]:
    """All limits."""
    table = schema.limits
    query = select(table).order_by(table.c.kind, table.c.name, table.c.model, table.c.metric)
    return [msgspec.convert(row, Limit) for row in _rows(connection, query)]


def _rows(connection: Connection, query: Select[Any]) -> Iterator[dict[str, Any]]:
    # SQLAlchemy's names of columns are a kind of str that msgspec does not take.
    for row in connection.execute(query).mappings():
        yield {str(name): value for name, value in row.items()}
