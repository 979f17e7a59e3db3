"""One person's data, removed wherever it is."""

from typing import Any, Final

from sqlalchemy import Connection, delete, select, update

from headrace.gateway.policy import pseudonyms
from headrace.gateway.policy.records import SubjectKind
from headrace.gateway.store import queries, schema

ERASED: Final = "(erased)"
"""In the audit log, in place of a name."""


def erase(connection: Connection, secret: bytes, name: str) -> dict[str, int]:
    """Remove the user `name`; the number of rows that went or changed, by table."""
    tenant = pseudonyms.of_user(secret, name)
    keys = [key.id for key in queries.keys(connection, owner=name)]
    usage, limits = schema.usage, schema.limits
    gone = {"keys": len(keys)}
    gone["usage"] = connection.execute(delete(usage).where(usage.c.tenant == tenant)).rowcount
    for table in (schema.counters, schema.in_flight):
        whose = [table.c.name.like(f"%:{tenant}:%")]
        whose += [table.c.name.like(f"key:{id}:%") for id in keys]
        gone[table.name] = sum(
            connection.execute(delete(table).where(each)).rowcount for each in whose
        )
    gone["limits"] = connection.execute(
        delete(limits).where(
            ((limits.c.kind == SubjectKind.USER) & (limits.c.name == name))
            | ((limits.c.kind == SubjectKind.KEY) & limits.c.name.in_(keys))
        )
    ).rowcount
    gone["audit"] = _audit(connection, name)
    for table in (schema.members, schema.sessions):
        where = table.c.user == name
        gone[table.name] = connection.execute(delete(table).where(where)).rowcount
    connection.execute(delete(schema.keys).where(schema.keys.c.owner == name))
    connection.execute(delete(schema.users).where(schema.users.c.name == name))
    return gone


def _audit(connection: Connection, name: str) -> int:
    """Take the name out of the audit log: what was done, and when, stays."""
    audit = schema.audit
    changed = 0
    for row in connection.execute(select(audit)).mappings():
        new = {key: _without(row[key], name) for key in ("who", "target", "detail")}
        if any(new[key] != row[key] for key in new):
            connection.execute(update(audit).where(audit.c.id == row["id"]).values(new))
            changed += 1
    return changed


def _without(value: Any, name: str) -> Any:
    if isinstance(value, str):
        words = [ERASED if word == name else word for word in value.split(" ")]
        return " ".join(words)
    if isinstance(value, dict):
        return {key: _without(each, name) for key, each in value.items()}
    if isinstance(value, list):
        return [_without(each, name) for each in value]
    return value
