"""What an edge holds of the store: every key by its digest, and what it may do. No I/O.

Made anew at each change, in a thread; looked at for each request, in a dictionary.
"""

import hmac
from collections.abc import Iterable
from typing import Final

import msgspec

from headrace.gateway.policy import access, pseudonyms, quotas
from headrace.gateway.policy.access import UNBOUND, Rights
from headrace.gateway.policy.quotas import LimitBook, LimitSubject
from headrace.gateway.policy.records import Group, Key, User
from headrace.gateway.store.queries import Records


class Grant(msgspec.Struct, frozen=True):
    """One key as a request shows it: whose it is, what it may do, what counts against it."""

    key: Key
    who: LimitSubject
    organisation: str
    rights: Rights
    disabled: bool = False
    """Whether its owner is shut out."""
    stored: bool = True
    """Whether it is a key of the store, which expires and is revoked."""


class Snapshot:
    """The store at one revision, and the keys that are in no store."""

    def __init__(self, records: Records, secret: bytes, static: Iterable[Grant] = ()) -> None:
        self.revision: Final = records.revision
        self.book: Final[LimitBook] = quotas.book(records.limits)
        self._secret = secret
        self._users = {user.name: user for user in records.users}
        self._groups = {group.name: group for group in records.groups}
        self._keys: dict[str, Key] = {key.digest: key for key in records.keys}
        self._grants: dict[str, Grant] = {grant.key.digest: grant for grant in static}

    def find(self, digest: str) -> Grant | None:
        """The grant of a key's digest, whether the key lives or not; None for one of nobody.

        What is looked up is an HMAC under the server's secret: whoever guesses keys does not know
        what it is, and learns nothing from the time that the look takes.
        """
        grant = self._grants.get(digest)
        if grant is None:
            key = self._keys.get(digest)
            if key is None:
                return None
            grant = self._grants[digest] = self.grant(key)
        return grant if hmac.compare_digest(grant.key.digest, digest) else None

    def grant(self, key: Key) -> Grant:
        """What `key`, which is of a user, may do."""
        owner = self._users[key.owner]
        rights = access.rights(key, owner, self._groups)
        who = LimitSubject(
            key=key.id,
            owner=pseudonyms.of_user(self._secret, owner.name),
            user=owner.name,
            groups=tuple(group.name for group in rights.groups),
        )
        return Grant(key, who, owner.organisation, rights, owner.disabled)

    def user(self, name: str) -> User | None:
        """The user of that name."""
        return self._users.get(name)

    def groups(self) -> Iterable[Group]:
        """All groups."""
        return self._groups.values()


def static(secret: bytes, id: str, digest: str, *, wait: str = "", keepalive: str = "") -> Grant:
    """The grant of a key that is in the edge's configuration: the site's own, bound by no group."""
    key = Key(id=id, digest=digest, owner=id, wait=wait, keepalive=keepalive)
    who = LimitSubject(key=id, owner=pseudonyms.of_key(secret, id), user="")
    return Grant(key, who, "", UNBOUND, stored=False)
