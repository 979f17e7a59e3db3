"""The key page: sign in, see, make, replace and revoke one's keys, sign out."""

import hmac
import time
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qs, parse_qsl, urlsplit

import msgspec
from starlette.types import Receive, Scope, Send

from headrace.edge.api.http import header, read_body, respond
from headrace.edge.auth import cookies
from headrace.edge.auth.oidc import OidcProvider, PendingSignIn, SignInError
from headrace.edge.auth.trusted_proxy import TrustedProxy
from headrace.edge.auth_options import SignInOptions
from headrace.edge.portal import html
from headrace.edge.portal.admin_api import AdminRequest
from headrace.edge.portal.admin_executor import AdminExecutor
from headrace.gateway.admin import views
from headrace.gateway.admin.action import Actor
from headrace.gateway.admin.keys import Minted
from headrace.gateway.admin.service import AdminService
from headrace.gateway.policy import oidc_claims
from headrace.gateway.policy.oidc_claims import Identity, NotAdmittedError
from headrace.gateway.store import queries, sessions
from headrace.gateway.store.sessions import SignInSession
from headrace.protocol.endpoints import Headers
from headrace.protocol.errors import Code, HeadraceError
from headrace.runtime.logging import Logger

MAX_BODY: Final = 16 * 1024
BODY_SECONDS: Final = 10.0
PENDING_SECONDS: Final = 600


class _Visit(msgspec.Struct):
    """One request of somebody who is signed in."""

    token: str
    session: SignInSession
    form: dict[str, str]
    path: dict[str, str]


class AccountPages:
    """All of the page's paths. Each method that serves one is an ASGI app."""

    def __init__(
        self,
        backroom: AdminExecutor,
        options: SignInOptions,
        provider: OidcProvider | None,
        proxy: TrustedProxy,
        log: Logger,
    ) -> None:
        self._backroom = backroom
        self._options = options
        self._provider = provider
        self._proxy = proxy
        self._log = log
        self._secret = backroom.keys.secret
        self._cookie = cookies.named("headrace_session", secure=options.secure)
        self._pending = cookies.named("headrace_signin", secure=options.secure)
        idp = urlsplit(options.issuer)
        targets = [f"{idp.scheme}://{idp.netloc}"] if provider is not None else []
        self._headers: Headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", html.policy(targets).encode()),
            (b"cache-control", b"no-store"),
            # With `no-referrer` browsers send no true `Origin` with forms either.
            (b"referrer-policy", b"same-origin"),
            (b"x-content-type-options", b"nosniff"),
        ]

    def routes(self) -> list[tuple[str, str, Callable[[Scope, Receive, Send], Awaitable[None]]]]:
        """Path, method and app of each."""
        return [
            ("/account", "GET", self.show),
            ("/account/callback", "GET", self.callback),
            ("/account/keys", "POST", self._posted(self._create)),
            ("/account/keys/{id}/rotate", "POST", self._posted(self._rotate)),
            ("/account/keys/{id}/revoke", "POST", self._posted(self._revoke)),
            ("/account/signout", "POST", self._posted(self._sign_out)),
        ]

    async def show(self, scope: Scope, _: Receive, send: Send) -> None:
        """``GET /account``: the page, or the way to sign in."""
        try:
            token = cookies.read(header(scope, b"cookie"), self._cookie)
            session = await self._session(token)
            known = self._proxy.identity(scope)
            if known is not None and (session is None or session.user != known.user):
                await self._welcome(known, "", send)
            elif session is not None:
                await self._page(send, token, session)
            elif self._provider is not None:
                url, pending = await self._provider.begin(time.time())
                sealed = cookies.seal(self._secret, pending)
                cookie = self._set(self._pending, sealed, PENDING_SECONDS)
                await self._redirect(send, url, cookie)
            else:
                await self._say(send, 403, "Not signed in", "Come through the site's own door.")
        except (SignInError, NotAdmittedError, HeadraceError) as error:
            await self._refuse(send, error)

    async def callback(self, scope: Scope, _: Receive, send: Send) -> None:
        """``GET /account/callback``: back from the identity provider."""
        if self._provider is None:
            await self._say(send, 404, "Not here", "There is no sign-in here.")
            return
        sealed = cookies.read(header(scope, b"cookie"), self._pending)
        try:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=20))
            pending = cookies.unseal(self._secret, sealed, PendingSignIn)
            if pending is None:
                await self._say(send, 400, "Sign-in", "No sign-in was begun in this browser.")
                return
            signed = await self._provider.complete(query, pending, time.time())
            known = oidc_claims.identity(signed.claims, self._options.claims, self._options.groups)
            await self._welcome(known, signed.id_token, send)
        except (SignInError, NotAdmittedError, HeadraceError) as error:
            await self._refuse(send, error)
        except ValueError:
            await self._say(send, 400, "Sign-in", "This address is not one of ours.")

    # --- forms ------------------------------------------------------------------------------------

    def _posted(
        self, serve: Callable[[_Visit, Send], Awaitable[None]]
    ) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                visit = await self._visit(scope, receive)
                if visit is None:
                    text = "This form is not from your session. Please try again."
                    await self._say(send, 403, "Not done", text)
                    return
                await serve(visit, send)
            except HeadraceError as error:
                await self._refuse(send, error)

        return app

    async def _visit(self, scope: Scope, receive: Receive) -> _Visit | None:
        """The session and the form, if the form is of that session; None where it is not."""
        origin = header(scope, b"origin")
        if origin is not None and self._options.issuer:
            parts = urlsplit(self._options.base)
            if origin.decode("latin-1") != f"{parts.scheme}://{parts.netloc}":
                return None
        token = cookies.read(header(scope, b"cookie"), self._cookie)
        session = await self._session(token)
        body = await read_body(scope, receive, MAX_BODY, BODY_SECONDS)
        try:
            fields = parse_qs(body.decode("ascii"), max_num_fields=20, strict_parsing=bool(body))
        except ValueError:
            return None
        form = {name: values[0] for name, values in fields.items()}
        wanted = sessions.form_token(self._secret, token)
        given = form.get("form", "")
        if session is None or not hmac.compare_digest(given.encode(), wanted.encode()):
            return None
        return _Visit(token, session, form, scope["path_params"])

    async def _create(self, visit: _Visit, send: Send) -> None:
        options, user = self._options, visit.session.user
        text = visit.form.get("days", "")
        days = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
        if not 0 < days <= options.key_days:
            await self._page(send, visit.token, visit.session, problem="How many days?")
            return

        def act(office: AdminService, _: AdminRequest) -> object:
            return office.keys.create(
                user, seconds=days * 86400.0, name=visit.form.get("name", ""),
                bound=options.max_keys,
            )  # fmt: skip

        await self._mint(visit, send, act)

    async def _rotate(self, visit: _Visit, send: Send) -> None:
        user, id = visit.session.user, visit.path["id"]
        await self._mint(visit, send, lambda office, _: office.keys.rotate(id, owner=user))

    async def _revoke(self, visit: _Visit, send: Send) -> None:
        user, id = visit.session.user, visit.path["id"]
        try:
            await self._act(user, lambda office, _: office.keys.revoke(id, owner=user))
        except HeadraceError as error:
            await self._page(send, visit.token, visit.session, problem=error.message)
            return
        await self._redirect(send, "/account")

    async def _sign_out(self, visit: _Visit, send: Send) -> None:
        def act(office: AdminService, _: AdminRequest) -> object:
            with office.database.write() as connection:
                sessions.end(connection, self._secret, visit.token)
            return None

        await self._act(visit.session.user, act)
        url = "/account"
        if self._provider is not None:
            url = await self._provider.end(visit.session.id_token)
        await self._redirect(send, url, self._set(self._cookie, "", 0))

    async def _mint(
        self, visit: _Visit, send: Send, act: Callable[[AdminService, AdminRequest], object]
    ) -> None:
        try:
            minted = await self._act(visit.session.user, act)
        except HeadraceError as error:
            await self._page(send, visit.token, visit.session, problem=error.message)
            return
        key = minted.key if isinstance(minted, Minted) else ""
        await self._page(send, visit.token, visit.session, new_key=key)

    # --- inside -----------------------------------------------------------------------------------

    async def _welcome(self, known: Identity, id_token: str, send: Send) -> None:
        """Begin a session."""
        seconds = self._options.session_hours * 3600

        def act(office: AdminService, _: AdminRequest) -> object:
            office.people.sign_in(known.user, known.organisation, known.groups)
            with office.database.write() as connection:
                return sessions.begin(
                    connection, self._secret, known.user, id_token,
                    now=time.time(), seconds=seconds,
                )  # fmt: skip

        token = str(await self._act(known.user, act, via="sign-in"))
        cookie = self._set(self._cookie, token, int(seconds))
        await self._redirect(send, "/account", cookie, self._set(self._pending, "", 0))

    async def _session(self, token: str) -> SignInSession | None:
        if not token:
            return None

        def look(office: AdminService, _: AdminRequest) -> object:
            with office.database.read() as connection:
                return sessions.find(connection, self._secret, token, time.time())

        found = await self._backroom.act(
            look, self._backroom.office(Actor("", "page")), AdminRequest()
        )
        return found if isinstance(found, SignInSession) else None

    async def _act(
        self, user: str, act: Callable[[AdminService, AdminRequest], object], via: str = "page"
    ) -> object:
        return await self._backroom.act(
            act, self._backroom.office(Actor(user, via)), AdminRequest()
        )

    async def _page(
        self,
        send: Send,
        token: str,
        session: SignInSession,
        *,
        new_key: str = "",
        problem: str = "",
    ) -> None:
        now = time.time()

        def look(office: AdminService, _: AdminRequest) -> object:
            with office.database.read() as connection:
                keys = queries.keys(connection, owner=session.user)
                groups = [group for user in queries.users(connection, session.user)
                          for group in user.groups]  # fmt: skip
                return [views.key(key, now) for key in keys], groups

        told = await self._act(session.user, look)
        keys, groups = told if isinstance(told, tuple) else ([], [])
        body = html.page(
            user=session.user,
            groups=groups,
            keys=keys,
            form_token=sessions.form_token(self._secret, token),
            days=self._options.key_days,
            new_key=new_key,
            problem=problem,
        )
        await respond(send, 400 if problem else 200, body, self._headers)

    def _set(self, name: str, value: str, seconds: int) -> tuple[bytes, bytes]:
        return cookies.write(name, value, secure=self._options.secure, seconds=seconds)

    async def _redirect(self, send: Send, url: str, *more: tuple[bytes, bytes]) -> None:
        told = [*self._headers, (b"location", url.encode("latin-1")), *more]
        await respond(send, 303, b"", told)

    async def _say(self, send: Send, status: int, title: str, text: str) -> None:
        await respond(send, status, html.message(title, text), self._headers)

    async def _refuse(self, send: Send, error: Exception) -> None:
        status = error.status if isinstance(error, HeadraceError) else 403
        text = error.message if isinstance(error, HeadraceError) else str(error)
        code = error.code if isinstance(error, HeadraceError) else Code.PERMISSION_DENIED
        self._log.warning("sign_in_refused", code=code, error=type(error).__name__)
        await self._say(send, status, "Not signed in", text)
