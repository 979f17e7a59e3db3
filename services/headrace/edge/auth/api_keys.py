"""Who a request comes from: API keys, known only by their digests."""

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec
from starlette.types import Scope

from headrace.edge.auth.trusted_proxy import TrustedProxy
from headrace.edge.options import KeyOptions
from headrace.edge.wait_policy import DEFAULT, Keepalive, WaitPolicy, parse
from headrace.gateway.policy import api_keys, pseudonyms, snapshot
from headrace.gateway.policy.oidc_claims import Identity, NotAdmittedError
from headrace.gateway.policy.records import Key
from headrace.gateway.policy.snapshot import Grant, Snapshot
from headrace.gateway.store.queries import Records
from headrace.protocol.errors import Code, HeadraceError

_BEARER: Final = b"bearer "
MAX_HEADER: Final = 512
"""Our keys are far shorter: what is longer is not looked at."""

MAX_INTRODUCED: Final = 10_000

Headers = Iterable[tuple[bytes, bytes]]
Introduce = Callable[[Identity], Awaitable[None]]


async def _nobody(_: Identity) -> None:
    raise HeadraceError(Code.UNAVAILABLE, "There is no store.")


class Principal(msgspec.Struct, frozen=True):
    """Whose request it is. `tenant` is a pseudonym: it may leave this machine, the key's id not."""

    key_id: str
    tenant: str
    patience: WaitPolicy = DEFAULT
    keepalive: Keepalive = Keepalive.COMMENT
    grant: Grant | None = None
    """What it may do, and what counts against it; None is everything and nothing."""


class KeyRing:
    """Every key that opens the door: those of the configuration, and those of the store."""

    def __init__(
        self, secret: bytes, keys: Iterable[KeyOptions], clock: Callable[[], float] = time.time
    ) -> None:
        self.secret: Final = secret
        self.static: Final = tuple(
            snapshot.static(
                secret, key.id, key.digest, wait="" if key.wait is None else str(key.wait),
                keepalive=key.keepalive,
            )
            for key in keys
        )  # fmt: skip
        self.snapshot = Snapshot(Records(0), secret, self.static)
        """As of the last change."""
        self.believed_until: float = float("inf")
        """In Unix seconds: after that the store was away for too long, and may have changed."""
        self.used: dict[str, float] = {}
        """When keys of the store were last used, since that was last written down."""
        self._clock = clock
        self._principals: dict[str, Principal] = {}
        self._introduced: dict[Identity, Principal] = {}
        self.proxy: TrustedProxy | None = None
        """Who is believed to know people, if anybody."""
        self.introduce: Introduce = _nobody
        """Makes whom the proxy names a user of the store, and brings the snapshot up to date."""

    def replace(self, new: Snapshot) -> None:
        """Go by another state of the store."""
        self.snapshot = new
        self._principals = {}
        self._introduced = {}

    async def admit(self, scope: Scope) -> Principal:
        """Whose request it is: of a key's holder, or of whom a trusted proxy names.

        Raises ``invalid_api_key``, ``permission_denied``, ``service_unavailable``.
        """
        headers = scope["headers"]
        if self.proxy is not None and not any(name == b"authorization" for name, _ in headers):
            try:
                known = self.proxy.identity(scope)
            except NotAdmittedError as error:
                raise HeadraceError(Code.PERMISSION_DENIED, str(error)) from None
            if known is not None:
                return await self._named(known)
        return self.authenticate(headers)

    async def _named(self, known: Identity) -> Principal:
        principal = self._introduced.get(known)
        if principal is None:
            await self.introduce(known)
            user = self.snapshot.user(known.user)
            if user is None or user.disabled:
                raise HeadraceError(Code.PERMISSION_DENIED, "This account cannot be used.")
            tenant = pseudonyms.of_user(self.secret, user.name)
            grant = self.snapshot.grant(Key(id=f"proxy.{tenant}", digest="", owner=user.name))
            principal = Principal(grant.key.id, tenant, grant=grant)
            if len(self._introduced) < MAX_INTRODUCED:
                self._introduced[known] = principal
        return principal

    def authenticate(self, headers: Headers) -> Principal:
        """Whose key the ``Authorization`` header holds. Raises ``invalid_api_key``.

        First the key's form, which anybody can check; then one look at a dictionary of HMACs under
        our secret. So the time that it takes tells nothing of any key that there is.
        """
        return self._principal(self.grant(headers))

    def grant(self, headers: Headers) -> Grant:
        """The grant of a key that lives. Raises ``invalid_api_key``."""
        digest = api_keys.digest(self.secret, _key(headers))
        grant = self.snapshot.find(digest)
        if grant is None:
            raise HeadraceError(Code.INVALID_API_KEY, "Incorrect API key provided.")
        if grant.stored:
            self._check(grant)
        return grant

    def _check(self, grant: Grant) -> None:
        now = self._clock()
        if now > self.believed_until:
            raise HeadraceError(
                Code.UNAVAILABLE, "API keys cannot be checked right now.", retry_after=10
            )
        if not grant.key.lives(now) or grant.disabled:
            # Only who has the key itself hears so.
            what = "disabled" if grant.disabled else "revoked"
            if grant.key.revoked is None and not grant.disabled:
                what = "expired"
            raise HeadraceError(Code.INVALID_API_KEY, f"This API key is {what}.")
        self.used[grant.key.id] = now

    def _principal(self, grant: Grant) -> Principal:
        principal = self._principals.get(grant.key.digest)
        if principal is None:
            key = grant.key
            principal = self._principals[key.digest] = Principal(
                key.id,
                grant.who.owner,
                parse(key.wait) if key.wait else DEFAULT,
                Keepalive(key.keepalive) if key.keepalive else Keepalive.COMMENT,
                grant,
            )
        return principal


def _key(headers: Headers) -> str:
    """The well-formed key of the one ``Authorization`` header. Raises ``invalid_api_key``."""
    given = [value for name, value in headers if name == b"authorization"]
    if not given:
        raise HeadraceError(
            Code.INVALID_API_KEY,
            "You didn't provide an API key. Send it as `Authorization: Bearer YOUR_KEY`.",
        )
    header = given[0]
    if len(given) == 1 and len(header) <= MAX_HEADER and header[:7].lower() == _BEARER:
        key = header[7:].strip().decode("latin-1")
        if api_keys.well_formed(key):
            return key
    raise HeadraceError(Code.INVALID_API_KEY, "Incorrect API key provided.")
