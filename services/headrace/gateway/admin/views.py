"""Records as programs are shown them, by the command line and over HTTP."""

from typing import Any

from sqlalchemy import Connection, select

from headrace.gateway.policy.records import Key
from headrace.gateway.store import schema


def key(key: Key, now: float) -> dict[str, Any]:
    """A key: all but its digest. Times are Unix seconds."""
    state = "revoked" if key.revoked is not None else "works" if key.lives(now) else "expired"
    return {
        "id": key.id, "owner": key.owner, "name": key.name, "state": state,
        "groups": list(key.groups), "models": list(key.models),
        "endpoints": [endpoint.value for endpoint in key.endpoints],
        "created": key.created, "expires": key.expires, "revoked": key.revoked,
        "last_used": key.last_used, "wait": key.wait, "keepalive": key.keepalive,
        "admin": key.admin, "replaces": key.replaces,
    }  # fmt: skip


def audit(connection: Connection, count: int) -> list[dict[str, Any]]:
    """The last lines of the audit log, the newest first."""
    table = schema.audit
    rows = connection.execute(select(table).order_by(table.c.id.desc()).limit(count)).mappings()
    return [{str(name): value for name, value in row.items()} for row in rows]
