"""Sign-in at a real OpenID Connect provider through a real browser, and the key page behind it."""

import hashlib
import http.cookiejar
import json
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, async_playwright
from sqlalchemy import select

from headrace.devcluster.loopback import free_port
from headrace.gateway.policy.records import Source
from headrace.gateway.store import queries, schema
from tests.support.edge_kit import MODEL, Edge, eventually, until
from tests.support.gateway_edges import ADA, BOB, Site, StartGate, bearer
from tests.support.parts import browser as chromium

pytestmark = pytest.mark.anyio

PEOPLE = {
    "ada-1": {"email": ADA, "email_verified": True, "org": "Uni Example",
              "groups": ["cn=chemistry,ou=x", "cn=unknown"]},
    "stu-4": {"email": "stu@example.org", "email_verified": True, "groups": "cn=students,ou=x"},
    "bob-2": {"email": BOB, "email_verified": False},
    "eve-3": {"email": "eve<script>@example.org", "email_verified": True},
}  # fmt: skip

# In a process of its own: it is built on what Authlib will take away, and warns of it.
PROVIDER = """
import json, sys
from oidc_provider_mock import User, run_server_in_thread
people = [User(sub=sub, claims=claims) for sub, claims in json.loads(sys.argv[2]).items()]
with run_server_in_thread(port=int(sys.argv[1]), user_claims=people):
    sys.stdin.read()
"""


@pytest.fixture
def provider() -> Iterator[str]:
    """The provider's issuer."""
    port = free_port()
    argv = [sys.executable, "-W", "ignore", "-c", PROVIDER, str(port), json.dumps(PEOPLE)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    url = f"http://localhost:{port}"
    try:
        until(lambda: answers(f"{url}/jwks"), 60)
        yield url
    finally:
        process.stdin.close()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


@pytest.fixture
def signed(file_site: Site, start_gate: StartGate, provider: str) -> Edge:
    """An edge with sign-in, and the groups that claims are mapped to."""
    file_site.office.groups.put("chemistry", models=[MODEL])
    port = free_port()
    secret = file_site.folder / "client.secret"
    secret.touch(mode=0o600)
    secret.write_text("its-secret")
    return start_gate(
        file_site,
        port=port,
        sign_in={
            "issuer": provider,
            "client_id": "headrace",
            "client_secret_file": "../client.secret",
            "public_url": f"http://127.0.0.1:{port}",
            "max_keys": 3,
        },
        **{
            "sign_in.claims": {"user": "email", "organisation": "org", "groups": "groups"},
            "sign_in.groups": {"cn=chemistry,ou=x": "chemistry"},
        },
    )


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as play:
        browser = await play.chromium.launch(
            executable_path=str(chromium()),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        try:
            yield await browser.new_page()
        finally:
            await browser.close()


async def sign_in(page: Page, edge: Edge, sub: str) -> None:
    await page.goto(f"{edge.url}/account")
    await page.fill("input[name=sub]", sub)
    await page.click("button:has-text('Authorize')")


def listed(site: Site) -> list[Any]:
    with site.database.read() as connection:
        return queries.keys(connection)


@pytest.mark.browser
async def test_a_person_signs_in_makes_replaces_and_revokes_keys_and_signs_out(
    file_site: Site, signed: Edge, page: Page
) -> None:
    await sign_in(page, signed, "ada-1")
    await page.wait_for_selector("h1:has-text('API keys')")
    assert "Groups: chemistry" in await page.inner_text("body")
    with file_site.database.read() as connection:
        (user,) = queries.users(connection)
        assert (user.name, user.organisation, user.groups) == (ADA, "Uni Example", ("chemistry",))
        assert queries.sources(connection, ADA) == {"chemistry": Source.SIGN_IN}

    await page.fill("input[name=name]", "<b>laptop</b>")
    await page.click("text=Make a key")
    key = await page.inner_text("#new-key")
    assert signed.get("/v1/models")[0] == 200
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{signed.url}/v1/models", headers=bearer(key)) as answer,
    ):
        assert [each["id"] for each in (await answer.json())["data"]] == [MODEL]
    assert "<b>laptop</b>" in await page.inner_text("tbody"), "shown as it is, and not as HTML"
    assert key not in await (await page.goto(f"{signed.url}/account")).text()  # type: ignore[union-attr]

    await page.click("text=Replace")
    assert await page.inner_text("#new-key") != key
    old, new = sorted(listed(file_site), key=lambda each: each.created)
    assert new.replaces == old.id
    await page.click(f"#{old.id} >> text=Revoke")
    await page.wait_for_url("**/account")
    assert [each.revoked is None for each in listed(file_site) if each.id == old.id] == [False]
    for _ in range(2):
        await page.click("text=Make a key")
    await page.click("text=Make a key")
    assert "3 keys already" in await page.inner_text("[role=alert]")

    cookies = {each["name"]: each for each in await page.context.cookies()}
    session = cookies["headrace_session"]
    assert (session["httpOnly"], session["sameSite"]) == (True, "Lax")
    assert "headrace_signin" not in cookies, "what began the sign-in is gone"
    with file_site.database.read() as connection:
        rows = connection.execute(select(schema.sessions)).mappings().all()
    assert session["value"] not in str(rows)

    await page.click("text=Sign out")
    await page.wait_for_url("**/oauth2/end_session**")
    with file_site.database.read() as connection:
        assert connection.execute(select(schema.sessions)).all() == []
    log = signed.log()
    assert key not in log
    assert ADA not in log


@pytest.mark.browser
async def test_who_may_not_come_in_is_told_why(file_site: Site, signed: Edge, page: Page) -> None:
    for sub, why in (("bob-2", "not verified"), ("eve-3", "cannot be used here")):
        await sign_in(page, signed, sub)
        await page.wait_for_selector(".bad")
        assert why in await page.inner_text(".bad")
        await page.context.clear_cookies()
    file_site.office.people.put(ADA, disabled=True)
    await sign_in(page, signed, "ada-1")
    await page.wait_for_selector(".bad")
    assert "disabled" in await page.inner_text(".bad")
    with file_site.database.read() as connection:
        assert [user.name for user in queries.users(connection)] == [ADA]
        assert connection.execute(select(schema.sessions)).all() == []


class Visitor:
    """A browser's cookies and redirects, without the browser."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self.jar), _Stay()
        )

    def ask(
        self, url: str, form: dict[str, str] | None = None, /, **headers: Any
    ) -> tuple[int, str, Any]:
        """Status, text and headers; redirects are not followed."""
        url = url if url.startswith("http") else self.edge.url + url
        data = None if form is None else urllib.parse.urlencode(form).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(url, data, names)
        try:
            with self._opener.open(request, timeout=20) as answer:
                return answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), error.headers

    def sign_in(self, sub: str) -> str:
        """Up to the address to come back by."""
        _, _, headers = self.ask("/account")
        status, text, headers = self.ask(headers["location"], {"sub": sub})
        assert status in {302, 303}, text
        return str(headers["location"])

    def form(self) -> str:
        """The token of the page's forms."""
        found = re.search(r'name="form" value="([0-9a-f]+)"', self.ask("/account")[1])
        assert found is not None
        return found[1]


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def test_the_way_to_the_provider_has_pkce_state_and_nonce(signed: Edge) -> None:
    visitor = Visitor(signed)
    status, _, headers = visitor.ask("/account")
    assert status == 303
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(headers["location"]).query))
    assert query["code_challenge_method"] == "S256"
    assert len(query["code_challenge"]) == 43
    assert len(query["state"]) >= 43
    assert len(query["nonce"]) >= 43
    assert query["redirect_uri"] == f"{signed.url}/account/callback"
    assert "HttpOnly" in headers["set-cookie"]
    other = dict(
        urllib.parse.parse_qsl(
            urllib.parse.urlsplit(Visitor(signed).ask("/account")[2]["location"]).query
        )
    )
    assert not {query[name] for name in ("state", "nonce", "code_challenge")} & set(other.values())


def test_a_sign_in_ends_in_the_browser_in_which_it_began(signed: Edge) -> None:
    thief, victim = Visitor(signed), Visitor(signed)
    address = thief.sign_in("ada-1")
    assert victim.ask(address)[0] == 400, "no sign-in was begun there"
    victim.ask("/account")
    assert victim.ask(address)[0] == 403, "another one was"
    assert "headrace_session" not in {cookie.name for cookie in victim.jar}
    assert thief.ask(address.replace("state=", "state=x"))[0] == 403
    assert thief.ask(address)[0] == 303
    assert thief.ask("/account")[0] == 200
    assert thief.ask(address)[0] == 400, "an address is good once"


def test_a_forged_or_old_cookie_begins_nothing(signed: Edge) -> None:
    visitor = Visitor(signed)
    address = visitor.sign_in("ada-1")
    for cookie in visitor.jar:
        body, _, mark = (cookie.value or "").partition(".")
        forged = hashlib.sha256(body.encode()).hexdigest()
        assert len(mark) == len(forged)
        cookie.value = f"{body}.{forged}"
    assert visitor.ask(address)[0] == 400


def test_forms_are_taken_from_the_session_and_the_page_alone(file_site: Site, signed: Edge) -> None:
    visitor, other = Visitor(signed), Visitor(signed)
    for each, sub in ((visitor, "ada-1"), (other, "ada-1")):
        assert each.ask(each.sign_in(sub))[0] == 303
    form = visitor.form()
    made = {"name": "x", "days": "3"}
    assert visitor.ask("/account/keys", made)[0] == 403
    assert visitor.ask("/account/keys", made | {"form": "0" * 64})[0] == 403
    assert other.ask("/account/keys", made | {"form": form})[0] == 403, "another session's form"
    assert Visitor(signed).ask("/account/keys", made | {"form": form})[0] == 403
    foreign = visitor.ask("/account/keys", made | {"form": form}, origin="https://evil.example")
    assert foreign[0] == 403
    assert listed(file_site) == []
    assert visitor.ask("/account/keys", made | {"form": form}, origin=signed.url)[0] == 200
    for days in ("0", "91", "-1", "x", ""):
        assert visitor.ask("/account/keys", {"form": form, "days": days})[0] == 400
    assert len(listed(file_site)) == 1


def test_nobody_touches_anothers_keys(file_site: Site, signed: Edge) -> None:
    theirs = file_site.office.keys.create(BOB, make=True).record
    visitor = Visitor(signed)
    visitor.ask(visitor.sign_in("ada-1"))
    form = visitor.form()
    for act in ("revoke", "rotate"):
        status, text, _ = visitor.ask(f"/account/keys/{theirs.id}/{act}", {"form": form})
        assert status == 400
        assert "no key" in text
    assert [key.revoked for key in listed(file_site)] == [None]


def test_pages_are_locked_down(signed: Edge) -> None:
    visitor = Visitor(signed)
    visitor.ask(visitor.sign_in("ada-1"))
    _, text, headers = visitor.ask("/account")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "script" not in headers["content-security-policy"]
    assert "<script" not in text
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "same-origin"
    assert visitor.ask("/account/keys", {"form": "x" * 20_000})[0] in {403, 413}


async def test_a_proxy_is_believed_by_its_address_and_its_secret(
    file_site: Site, start_gate: StartGate
) -> None:
    file_site.office.groups.put("chemistry", models=[MODEL])
    secret = file_site.folder / "proxy.secret"
    secret.touch(mode=0o600)
    secret.write_text("between-us")
    table: dict[str, Any] = {
        "addresses": ["127.0.0.1"], "secret_file": "../proxy.secret",
    }  # fmt: skip
    groups = {"proxy.groups": {"chem": "chemistry"}}
    edge = start_gate(file_site, proxy=table, **groups)
    far = start_gate(file_site, proxy=table | {"addresses": ["10.9.9.9"]})
    told = {
        "x_headrace_proxy_secret": "between-us", "x_remote_user": ADA,
        "x_remote_groups": "chem, other", "x_remote_organisation": "Uni",
    }  # fmt: skip
    assert Visitor(edge).ask("/account")[0] == 403
    assert Visitor(edge).ask("/account", **(told | {"x_headrace_proxy_secret": "no"}))[0] == 403
    assert Visitor(far).ask("/account", **told)[0] == 403
    visitor = Visitor(edge)
    assert visitor.ask("/account", **told)[0] == 303
    status, text, _ = visitor.ask("/account", **told)
    assert status == 200
    assert ADA in text
    assert "chemistry" in text
    # Somebody else sits down: the session of before is not theirs.
    assert visitor.ask("/account", **(told | {"x_remote_user": BOB}))[0] == 303
    assert BOB in visitor.ask("/account", **(told | {"x_remote_user": BOB}))[1]

    # And requests to the API need no key.
    async with aiohttp.ClientSession() as http:
        headers = {name.replace("_", "-"): value for name, value in told.items()}
        new = headers | {"x-remote-user": "new@example.org"}
        for asked in (headers, new):
            async with http.get(f"{edge.url}/v1/models", headers=asked) as answer:
                assert answer.status == 200
                assert MODEL in [each["id"] for each in (await answer.json())["data"]]
        async with http.get(
            f"{edge.url}/v1/models", headers=headers | {"x-headrace-proxy-secret": "no"}
        ) as answer:
            assert answer.status == 401
        async with http.get(f"{far.url}/v1/models", headers=headers) as answer:
            assert answer.status == 401
        file_site.office.people.put(ADA, disabled=True)

        async def is_out() -> bool:
            async with http.get(f"{edge.url}/v1/models", headers=headers) as answer:
                return answer.status == 403

        await eventually(is_out, 5)
