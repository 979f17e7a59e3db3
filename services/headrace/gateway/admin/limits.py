"""Limits: set and taken away."""

from collections.abc import Collection, Iterable

import msgspec
from sqlalchemy import Connection, delete, insert

from headrace.gateway.admin.action import AdminError, AuditedActions, RefusalReason
from headrace.gateway.policy.records import Limit, SubjectKind
from headrace.gateway.store import queries, schema


class LimitActions(AuditedActions):
    """The desk for limits."""

    def set(self, limits: Iterable[Limit], static: Collection[str] = ()) -> None:
        """Set limits; what is set on the same already is replaced.

        `static` are ids of keys that are not in the store. Raises AdminError for what is not there.
        """
        for limit in limits:
            with self.act("limit.set", f"{limit.kind} {limit.name}", limit) as connection:
                if not _is_there(connection, limit, static):
                    raise AdminError(
                        RefusalReason.MISSING, f"there is no {limit.kind} {limit.name!r}"
                    )
                _clear(connection, limit)
                connection.execute(insert(schema.limits), [msgspec.to_builtins(limit)])

    def clear(self, limits: Iterable[Limit]) -> None:
        """Take limits away, whatever their values; they need not be there."""
        for limit in limits:
            with self.act("limit.clear", f"{limit.kind} {limit.name}", limit) as connection:
                _clear(connection, limit)


def copy(connection: Connection, kind: SubjectKind, name: str, other: str) -> None:
    """Set the limits of one on another."""
    rows = [
        msgspec.to_builtins(msgspec.structs.replace(limit, name=other))
        for limit in queries.limits(connection)
        if limit.kind is kind and limit.name == name
    ]
    if rows:
        connection.execute(insert(schema.limits), rows)


def _is_there(connection: Connection, limit: Limit, static: Collection[str]) -> bool:
    match limit.kind:
        case SubjectKind.KEY:
            return limit.name in static or bool(queries.keys(connection, id=limit.name))
        case SubjectKind.USER:
            return bool(queries.users(connection, limit.name))
        case SubjectKind.GROUP:
            return bool(queries.groups(connection, limit.name))
        case SubjectKind.MODEL:
            return True  # models come and go with their files


def _clear(connection: Connection, limit: Limit) -> None:
    table = schema.limits
    same = [
        table.c[name] == getattr(limit, name) for name in ("kind", "name", "model", "metric")
    ] + [table.c.window == limit.window, table.c.each == limit.each]
    connection.execute(delete(table).where(*same))
