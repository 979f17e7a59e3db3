"""Keys: issued, replaced, revoked."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, update

from headrace.gateway.admin import groups, limits, users
from headrace.gateway.admin.action import AdminError, AuditedActions, RefusalReason
from headrace.gateway.policy import api_keys
from headrace.gateway.policy.records import EVERYONE, Key, Source, SubjectKind
from headrace.gateway.store import queries, schema

OVERLAP_SECONDS: Final = 7 * 86400.0
"""How long a key that was replaced still works, unless said otherwise."""


class Minted(msgspec.Struct, frozen=True):
    """A new key and its record. The key itself is nowhere else: show it once."""

    key: str
    record: Key


class KeyActions(AuditedActions):
    """The desk for keys."""

    def create(
        self,
        owner: str,
        *,
        seconds: float | None = None,
        make: bool = False,
        bound: int | None = None,
        **fields: Any,
    ) -> Minted:
        """A new key of `owner` that lives for so many seconds, or until it is revoked.

        `fields` are those of `Key`. With `make` the owner and the groups are made, and joined,
        where that is not so yet. `bound` is how many live keys the owner may have in all.
        """
        now = self.clock()
        with self.act("key.create", owner, _said(fields)) as connection:
            users.ensure(connection, owner, create=make, now=now)
            for group in fields.get("groups", ()):
                self._group(connection, owner, group, make=make)
            live = sum(key.lives(now) for key in queries.keys(connection, owner=owner))
            if bound is not None and live >= bound:
                raise AdminError(
                    RefusalReason.INVALID, f"there are {live} keys already: revoke one first"
                )
            expires = None if seconds is None else now + seconds
            return self._mint(connection, {**fields, "owner": owner, "expires": expires})

    def rotate(
        self, id: str, *, owner: str | None = None, overlap: float = OVERLAP_SECONDS
    ) -> Minted:
        """A new key in place of `id`, which works for `overlap` seconds more at most.

        It is for the same, has the same limits, and lives as long as the old one was meant to.
        With `owner` the key must be that user's.
        """
        now = self.clock()
        with self.act("key.rotate", id, {"overlap": overlap}) as connection:
            old = get(connection, id, owner)
            if not old.lives(now):
                raise AdminError(RefusalReason.INVALID, f"the key {id} is over: make a new one")
            for other in queries.keys(connection, owner=old.owner):
                if other.replaces == id and other.lives(now):
                    raise AdminError(
                        RefusalReason.INVALID, f"{other.id} takes the place of {id} already"
                    )
            span = None if old.expires is None else old.expires - old.created
            fields = msgspec.structs.asdict(old) | {
                "expires": None if span is None else now + span,
                "last_used": None,
                "replaces": id,
            }
            minted = self._mint(connection, fields)
            limits.copy(connection, SubjectKind.KEY, id, minted.record.id)
            ends = now + overlap if old.expires is None else min(old.expires, now + overlap)
            _update(connection, id, {"expires": ends})
            return minted

    def revoke(self, id: str, *, owner: str | None = None) -> Key:
        """End a key for good. One that is revoked already stays as it is."""
        with self.act("key.revoke", id, {}) as connection:
            key = get(connection, id, owner)
            if key.revoked is None:
                key = msgspec.structs.replace(key, revoked=self.clock())
                _update(connection, id, {"revoked": key.revoked})
            return key

    def _mint(self, connection: Connection, fields: Mapping[str, Any]) -> Minted:
        key = api_keys.mint()
        made = {
            **fields,
            "id": f"k{secrets.token_hex(5)}",
            "digest": api_keys.digest(self.secret, key),
            "created": self.clock(),
        }
        record = msgspec.convert(made, Key, strict=True)
        connection.execute(insert(schema.keys), [msgspec.to_builtins(record)])
        self.note(connection, "key.made", record.id, {"owner": record.owner})
        return Minted(key, record)

    def _group(self, connection: Connection, owner: str, group: str, *, make: bool) -> None:
        if group == EVERYONE:
            return
        if make:
            groups.ensure(connection, group, create=True, now=self.clock())
            users.add(connection, owner, group, Source.HAND)
        elif group not in users.get(connection, owner).groups:
            raise AdminError(RefusalReason.FORBIDDEN, f"{owner} is not in the group {group!r}")


def get(connection: Connection, id: str, owner: str | None = None) -> Key:
    """The key of an id, of `owner` if given. Raises AdminError."""
    found = queries.keys(connection, id=id)
    if not found or owner not in (None, found[0].owner):
        raise AdminError(RefusalReason.MISSING, f"there is no key {id!r}")
    return found[0]


def _update(connection: Connection, id: str, values: dict[str, Any]) -> None:
    connection.execute(update(schema.keys).where(schema.keys.c.id == id).values(values))


def _said(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}
