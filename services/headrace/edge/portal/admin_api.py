"""What administrators ask for over HTTP: one function for each act, on plain values.

They block: they are called in threads. They raise AdminError, StoreError and ValueError.
"""

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from headrace.gateway import durations
from headrace.gateway.admin import views
from headrace.gateway.admin.keys import OVERLAP_SECONDS, Minted
from headrace.gateway.admin.service import AdminService
from headrace.gateway.policy.records import Limit
from headrace.gateway.store import queries, usage
from headrace.protocol.endpoints import Endpoint

MOST_LINES: Final = 10_000


class AdminRequest(msgspec.Struct, frozen=True):
    """What is asked: the path's names, the query, the body."""

    path: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    body: bytes = b""


class TextReply(msgspec.Struct, frozen=True):
    """An answer that is no JSON."""

    text: str
    media: str


class _NewKey(msgspec.Struct, forbid_unknown_fields=True):
    owner: str
    expires: str = ""
    """A span of time, such as ``30d``; empty is never."""
    name: str = ""
    groups: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    wait: str = ""
    keepalive: str = ""
    admin: bool = False


class _Rotation(msgspec.Struct, forbid_unknown_fields=True):
    overlap_seconds: Annotated[float, Meta(ge=0, le=366 * 86400)] = OVERLAP_SECONDS


class _User(msgspec.Struct, forbid_unknown_fields=True):
    organisation: str | None = None
    disabled: bool | None = None
    join: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()


class _Group(msgspec.Struct, forbid_unknown_fields=True):
    models: tuple[str, ...] | None = None
    endpoints: tuple[Endpoint, ...] | None = None


def list_keys(office: AdminService, ask: AdminRequest) -> object:
    """All keys, or those of ``?owner=``."""
    now = time.time()
    with office.database.read() as connection:
        found = queries.keys(connection, owner=ask.query.get("owner"))
    return [views.key(key, now) for key in found]


def create_key(office: AdminService, ask: AdminRequest) -> object:
    """A new key; its owner and groups are made where they are not there."""
    asked = msgspec.json.decode(ask.body, type=_NewKey)
    fields = msgspec.structs.asdict(asked)
    owner, expires = fields.pop("owner"), fields.pop("expires")
    seconds = float(durations.seconds(expires)) if expires else None
    return _minted(office.keys.create(owner, seconds=seconds, make=True, **fields))


def rotate_key(office: AdminService, ask: AdminRequest) -> object:
    """A new key in place of one."""
    asked = msgspec.json.decode(ask.body or b"{}", type=_Rotation)
    return _minted(office.keys.rotate(ask.path["id"], overlap=asked.overlap_seconds))


def revoke_key(office: AdminService, ask: AdminRequest) -> object:
    """End a key."""
    return views.key(office.keys.revoke(ask.path["id"]), time.time())


def list_users(office: AdminService, _: AdminRequest) -> object:
    """All users."""
    with office.database.read() as connection:
        return queries.users(connection)


def put_user(office: AdminService, ask: AdminRequest) -> object:
    """Make or change a user."""
    asked = msgspec.json.decode(ask.body, type=_User)
    return office.people.put(ask.path["name"], **msgspec.structs.asdict(asked))


def erase_user(office: AdminService, ask: AdminRequest) -> object:
    """Erase a person."""
    return office.people.erase(ask.path["name"])


def list_groups(office: AdminService, _: AdminRequest) -> object:
    """All groups."""
    with office.database.read() as connection:
        return queries.groups(connection)


def put_group(office: AdminService, ask: AdminRequest) -> object:
    """Make or change a group."""
    asked = msgspec.json.decode(ask.body, type=_Group)
    return office.groups.put(ask.path["name"], **msgspec.structs.asdict(asked))


def delete_group(office: AdminService, ask: AdminRequest) -> object:
    """Remove a group."""
    office.groups.delete(ask.path["name"])
    return {"deleted": ask.path["name"]}


def list_limits(office: AdminService, _: AdminRequest) -> object:
    """All limits."""
    with office.database.read() as connection:
        return queries.limits(connection)


def put_limit(office: AdminService, ask: AdminRequest) -> object:
    """Set a limit; what is set on the same is replaced."""
    limit = msgspec.json.decode(ask.body, type=Limit)
    office.limits.set([limit], static=office.static)
    return limit


def delete_limit(office: AdminService, ask: AdminRequest) -> object:
    """Take a limit away, whatever its value."""
    limit = msgspec.json.decode(ask.body, type=Limit)
    office.limits.clear([limit])
    return {"deleted": limit}


def show_usage(office: AdminService, ask: AdminRequest) -> object:
    """Sums ``?by=day,model&since=30d&format=csv``."""
    by = tuple(filter(None, ask.query.get("by", "day,model").split(",")))
    for name in by:
        if name not in usage.DIMENSIONS:
            raise ValueError(f"by: one or more of {', '.join(usage.DIMENSIONS)}")
    since = ask.query.get("since")
    begin = time.time() - durations.seconds(since) if since else None
    with office.database.read() as connection:
        sums = usage.report(connection, by, since=begin)
    if ask.query.get("format", "json") == "csv":
        return TextReply(usage.csv_of(by, sums), "text/csv; charset=utf-8")
    return usage.table_of(sums)


def show_audit(office: AdminService, ask: AdminRequest) -> object:
    """The last ``?last=100`` lines of the audit log."""
    last = ask.query.get("last", "100")
    if not (last.isascii() and last.isdigit() and 0 < int(last[:6]) <= MOST_LINES):
        raise ValueError(f"last: 1 to {MOST_LINES}")
    with office.database.read() as connection:
        return views.audit(connection, int(last))


def _minted(minted: Minted) -> dict[str, Any]:
    return {**views.key(minted.record, time.time()), "key": minted.key}


Act = Callable[[AdminService, AdminRequest], object]

ACTS: Final[dict[str, dict[str, Act]]] = {
    "/admin/keys": {"GET": list_keys, "POST": create_key},
    "/admin/keys/{id}": {"DELETE": revoke_key},
    "/admin/keys/{id}/rotate": {"POST": rotate_key},
    "/admin/users": {"GET": list_users},
    "/admin/users/{name:path}": {"PUT": put_user, "DELETE": erase_user},
    "/admin/groups": {"GET": list_groups},
    "/admin/groups/{name:path}": {"PUT": put_group, "DELETE": delete_group},
    "/admin/limits": {"GET": list_limits, "PUT": put_limit, "DELETE": delete_limit},
    "/admin/usage": {"GET": show_usage},
    "/admin/audit": {"GET": show_audit},
}
"""Every act by its path and method."""
