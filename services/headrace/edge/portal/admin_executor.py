"""The administration over HTTP: a key with the admin scope, then an act, in a thread."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from headrace.edge.api.http import read_body, respond, respond_error, respond_json
from headrace.edge.auth.api_keys import KeyRing
from headrace.edge.auth.snapshot_poller import SnapshotPoller
from headrace.edge.portal.admin_api import Act, AdminRequest, TextReply
from headrace.gateway.admin.action import Actor, AdminError, RefusalReason
from headrace.gateway.admin.service import AdminService
from headrace.gateway.policy.oidc_claims import Identity
from headrace.gateway.store.database import Database, StoreError
from headrace.protocol.errors import Code, HeadraceError

MAX_BODY: Final = 64 * 1024
BODY_SECONDS: Final = 10.0

_CODES: Final = {
    RefusalReason.INVALID: Code.INVALID_REQUEST,
    RefusalReason.MISSING: Code.NOT_FOUND,
    RefusalReason.FORBIDDEN: Code.PERMISSION_DENIED,
}
_NO_STORE: Final = [(b"cache-control", b"no-store")]


class AdminExecutor:
    """What all pages that change the store share."""

    def __init__(self, database: Database, keys: KeyRing, follower: SnapshotPoller) -> None:
        self.database = database
        self.keys = keys
        self._follower = follower
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="office")

    def office(self, actor: Actor) -> AdminService:
        """The desks for somebody."""
        static = tuple(grant.key.id for grant in self.keys.static)
        return AdminService(self.database, self.keys.secret, actor, static=static)

    async def act(self, act: Act, office: AdminService, ask: AdminRequest) -> object:
        """Do it in a thread; this process goes by it at once. Raises HeadraceError."""
        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(self._threads, act, office, ask)
        except AdminError as error:
            raise HeadraceError(_CODES[error.why], str(error)) from None
        except StoreError:
            raise HeadraceError(Code.UNAVAILABLE, "The store cannot be used right now.") from None
        except (ValueError, UnicodeError, RecursionError) as error:  # msgspec's too
            raise HeadraceError(Code.UNPROCESSABLE, str(error)[:300]) from None
        await self._follower.look()
        return done

    async def introduce(self, known: Identity) -> None:
        """Make whom a trusted proxy names a user. Raises HeadraceError."""

        def act(office: AdminService, _: AdminRequest) -> object:
            return office.people.sign_in(known.user, known.organisation, known.groups)

        await self.act(act, self.office(Actor(known.user, "proxy")), AdminRequest())

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class AdminRoute:
    """One path of the administration as an ASGI app."""

    def __init__(self, backroom: AdminExecutor, acts: Mapping[str, Act]) -> None:
        self._backroom = backroom
        self._acts = acts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        try:
            actor = self._actor(scope)
            ask = AdminRequest(
                path=scope["path_params"],
                query=dict(parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=20)),
                body=await read_body(scope, receive, MAX_BODY, BODY_SECONDS),
            )
            office = self._backroom.office(actor)
            done = await self._backroom.act(self._acts[scope["method"]], office, ask)
        except HeadraceError as error:
            await respond_error(send, error, _NO_STORE)
            return
        except ValueError as error:
            await respond_error(send, HeadraceError(Code.INVALID_REQUEST, str(error)[:100]))
            return
        if isinstance(done, TextReply):
            told = [(b"content-type", done.media.encode()), *_NO_STORE]
            await respond(send, 200, done.text.encode(), told)
        else:
            await respond_json(send, 200, msgspec.to_builtins(done), _NO_STORE)

    def _actor(self, scope: Scope) -> Actor:
        """Who administers. Raises HeadraceError."""
        grant = self._backroom.keys.grant(scope["headers"])
        if not grant.key.admin:
            raise HeadraceError(Code.PERMISSION_DENIED, "This key is not an administrator's.")
        return Actor(f"{grant.key.owner} {grant.key.id}", "api")
