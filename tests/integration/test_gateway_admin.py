"""The administration over HTTP, on either database: its scope, every act, and who is noted."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.integration.test_gateway_usage import THREE_DAYS, write
from tests.support.edge_kit import MODEL, Edge, eventually
from tests.support.gateway_edges import ADA, BOB, Site, StartGate, bearer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Client:
    def __init__(self, http: aiohttp.ClientSession, edge: Edge, key: str) -> None:
        self.http, self.edge, self.key = http, edge, key

    async def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        url = f"{self.edge.url}/admin/{path}"
        async with self.http.request(method, url, headers=bearer(self.key), json=body) as answer:
            assert answer.headers["cache-control"] == "no-store"
            return answer.status, await answer.json()


async def test_every_act_works_at_once_and_is_noted(
    site: Site, start_gate: StartGate, http: aiohttp.ClientSession
) -> None:
    root = site.key("root@example.org", admin=True)
    edge = start_gate(site)
    act = Client(http, edge, root)
    assert (await act("PUT", "groups/chemistry", {"models": [MODEL]}))[0] == 200
    assert (await act("PUT", f"users/{ADA}", {"join": ["chemistry"]}))[1]["groups"] == ["chemistry"]
    made = (await act("POST", "keys", {"owner": ADA, "expires": "30d"}))[1]
    async with http.get(f"{edge.url}/v1/models", headers=bearer(made["key"])) as answer:
        assert answer.status == 200, "on the same edge at once"
    limit = {"kind": "key", "name": made["id"], "metric": "requests", "window": "minute",
             "value": 3}  # fmt: skip
    assert (await act("PUT", "limits", limit))[0] == 200
    assert [each["value"] for each in (await act("GET", "limits"))[1]] == [3]
    new = (await act("POST", f"keys/{made['id']}/rotate"))[1]
    assert new["replaces"] == made["id"]
    assert (await act("DELETE", f"keys/{made['id']}"))[1]["state"] == "revoked"
    assert len((await act("GET", f"keys?owner={ADA}"))[1]) == 2
    assert (await act("DELETE", "limits", limit))[0] == 200
    assert len((await act("GET", "users"))[1]) == 2
    assert (await act("DELETE", "groups/chemistry"))[0] == 200
    assert [each["name"] for each in (await act("GET", "groups"))[1]] == ["everyone"]
    assert (await act("DELETE", f"users/{ADA}"))[1]["keys"] == 2
    lines = (await act("GET", "audit?last=4"))[1]
    assert lines[0]["action"] == "user.erase"
    assert all(line["who"].startswith("root@example.org k") for line in lines)
    assert all(line["via"] == "api" for line in lines)
    assert ADA not in str((await act("GET", "audit?last=1000"))[1])
    assert new["key"] not in edge.log()


async def test_only_an_administrators_key_opens_it(
    file_site: Site, start_gate: StartGate, http: aiohttp.ClientSession
) -> None:
    ordinary_key = file_site.key(ADA)
    edge = start_gate(file_site)
    for key, status, code in (
        ("nonsense", 401, "invalid_api_key"),
        (file_site.static, 403, "permission_denied"),
    ):
        for path in ("keys", "users", "groups", "limits", "usage", "audit"):
            got, body = await Client(http, edge, key)("GET", path)
            assert (got, body["error"]["code"]) == (status, code)
    ordinary = Client(http, edge, ordinary_key)
    assert (await ordinary("POST", "keys", {"owner": ADA, "admin": True}))[0] == 403
    assert (await ordinary("DELETE", f"users/{ADA}"))[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "keys", {}, 422),
        ("POST", "keys", {"owner": "two words"}, 400),
        ("POST", "keys", {"owner": ADA, "id": "k1"}, 422),
        ("POST", "keys", {"owner": ADA, "expires": "soon"}, 422),
        ("POST", "keys", {"owner": ADA, "digest": "0"}, 422),
        ("PUT", "limits", {"kind": "user", "name": BOB, "metric": "requests", "window": "day",
                           "value": 1}, 404),
        ("PUT", "limits", {"kind": "user", "name": BOB, "metric": "requests", "window": "day",
                           "value": -1}, 422),
        ("PUT", "groups/everyone", {"endpoints": ["shell"]}, 422),
        ("DELETE", "groups/everyone", None, 400),
        ("DELETE", "keys/k0", None, 404),
        ("PUT", "users/a%20b", {}, 400),
        ("GET", "usage?by=prompt", None, 422),
        ("GET", "usage?since=ever", None, 422),
        ("GET", "audit?last=0", None, 422),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused(
    *, file_site: Site, start_gate: StartGate, method: str, path: str, body: Any, status: int
) -> None:
    root = file_site.key("root@example.org", admin=True)
    async with aiohttp.ClientSession() as http:
        got, told = await Client(http, start_gate(file_site), root)(method, path, body)
    assert got == status, told
    assert told["error"]["message"]


async def test_usage_comes_as_json_and_csv(
    site: Site, start_gate: StartGate, http: aiohttp.ClientSession
) -> None:
    write(site.database, *THREE_DAYS)
    edge = start_gate(site)
    root = site.key("root@example.org", admin=True)

    async def known() -> bool:
        async with http.get(f"{edge.url}/v1/models", headers=bearer(root)) as answer:
            return answer.status == 200

    await eventually(known)
    told = (await Client(http, edge, root)("GET", "usage?by=model"))[1]
    assert [(each["model"], each["requests"]) for each in told] == [("big", 3), ("small", 2)]
    url = f"{edge.url}/admin/usage?by=day,model,group&format=csv"
    async with http.get(url, headers=bearer(root)) as answer:
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert {"day", "model", "group"} < set(rows[0])
    assert sum(int(row["requests"]) for row in rows) == 5
