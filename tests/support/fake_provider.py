"""A commercial provider that is pretended: HTTPS with a certificate of the test's own, and the
shapes of OpenAI, Azure and Anthropic. It remembers all that it was sent, and does as it is told.
"""

import asyncio
import contextlib
import datetime
import ipaddress
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.edge_kit import Hub
from tests.support.parts import ROOT

KEY = "sk-planted-5f1e0c77"
ORGANISATION = "org-planted-91"
ANSWER = ["The ", "answer ", "is ", "42."]
USAGE = {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24}


class Seen(NamedTuple):
    """One request that came."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any]


Behave = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def certificate(folder: Path) -> Path:
    """A key and a certificate of the loopback, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "provider.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


class FakeProvider:
    """The server."""

    def __init__(self, port: int, pem: Path) -> None:
        self.port = port
        self.pem = pem
        self.seen: list[Seen] = []
        self.keys = {KEY}
        self.healthy = True
        self.probes = 0
        self.behave: Behave = answer
        self.left = asyncio.Event()
        """Somebody has hung up in the midst of an answer."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._get)
        app.router.add_post("/{path:.*}", self._post)
        return app

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self.probes += 1
        if not self.healthy:
            return web.json_response({"error": {"message": "away"}}, status=503)
        if not self._may(request):
            return refuse(401)
        return web.json_response({"object": "list", "data": []})

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.path, dict(request.query), headers, body))
        if not self._may(request):
            return refuse(401)
        try:
            return await self.behave(request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise

    def _may(self, request: web.Request) -> bool:
        headers = request.headers
        shown = {
            headers.get("authorization", "").removeprefix("Bearer "),
            headers.get("api-key", ""),
            headers.get("x-api-key", "") if request.method == "GET" else "",
        }
        return bool(shown & self.keys)


def refuse(status: int, **headers: str) -> web.Response:
    """As OpenAI refuses, with words about the account."""
    message = f"Refused in organization {ORGANISATION} with the key {KEY}: see https://help.example"
    error = {"message": message, "type": "requests", "param": "temperature", "code": "refused_so"}
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"error": error}, status=status, headers=told)


def chunk(**more: Any) -> bytes:
    made = {"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 1, "model": "sold-1"}
    return b"data: " + json.dumps(made | more).encode() + b"\n\n"


async def begin(request: web.Request) -> web.StreamResponse:
    """The head of a stream, and its first event."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    delta = {"role": "assistant", "content": ""}
    await response.write(chunk(choices=[{"index": 0, "delta": delta, "finish_reason": None}]))
    return response


async def say(response: web.StreamResponse, text: str) -> None:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    await response.write(chunk(choices=[choice]))


async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """As it should be."""
    if request.path.endswith("/embeddings"):
        usage = {"prompt_tokens": 5, "total_tokens": 5}
        data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        return web.json_response({"object": "list", "data": data, "usage": usage})
    if not body.get("stream"):
        message = {"role": "assistant", "content": "".join(ANSWER)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        made = {"id": "chatcmpl-9", "object": "chat.completion", "created": 1, "model": "sold-1"}
        return web.json_response(made | {"choices": [choice], "usage": USAGE})
    response = await begin(request)
    for text in ANSWER:
        await say(response, text)
    await response.write(chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    if body["stream_options"]["include_usage"]:
        await response.write(chunk(choices=[], usage=USAGE))
    await response.write(b"data: [DONE]\n\n")
    return response


async def endless(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """A stream that never ends."""
    response = await begin(request)
    while True:
        await say(response, "on ")
        await asyncio.sleep(0.05)


async def torn(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """A stream whose connection breaks."""
    response = await begin(request)
    await say(response, "half ")
    await asyncio.sleep(0.1)
    assert request.transport is not None
    request.transport.abort()
    return response


async def unfinished(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """A stream that ends as HTTP has it, and has not said that it is done."""
    response = await begin(request)
    await say(response, "")
    return response


async def wrong(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """A stream that tells an error in its midst."""
    response = await begin(request)
    await say(response, "half ")
    error = {"error": {"message": f"{ORGANISATION} {KEY}", "type": "server_error"}}
    await response.write(b"data: " + json.dumps(error).encode() + b"\n\n")
    return response


async def silent(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Nothing at all."""
    await asyncio.sleep(60)
    return web.Response()


def refusing(status: int, **headers: str) -> Behave:
    async def behave(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return refuse(status, **headers)

    return behave


@contextlib.asynccontextmanager
async def running(folder: Path, port: int) -> AsyncIterator[FakeProvider]:
    """The server, for as long as the context lasts."""
    fake = FakeProvider(port, certificate(folder))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(fake.pem)
    runner = web.AppRunner(fake.app(), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        yield fake
    finally:
        await runner.cleanup()


class ExternalWorker:
    """A worker of the web machine, as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, key: Path) -> None:
        self.process = process
        self.key = key
        self._log = log

    def log(self) -> str:
        return self._log.read_text(errors="replace")


@contextlib.asynccontextmanager
async def worker(
    folder: Path, hub: Hub, slug: str, *, models: Path, key: Path, nkey: str = ""
) -> AsyncIterator[ExternalWorker]:
    """Started on the hub itself, without waiting for anything."""
    config = folder / "external.toml"
    seed = f'nkey_file = "{nkey}"\n' if nkey else ""
    config.write_text(f'models = "{models}"\n[bus]\nurl = "{hub.url}"\n{seed}')
    log = folder / "external.log"
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "headrace.worker.main", "--config", str(config),
            "--external", slug, stdout=out, stderr=out, cwd=ROOT, env=dict(os.environ),
        )  # fmt: skip
    try:
        yield ExternalWorker(process, log, key)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            await asyncio.sleep(0.1)
        await asyncio.wait_for(process.wait(), 15)


def write_key(path: Path, key: str = KEY, mode: int = 0o600) -> None:
    """Put a key there, as a rotation does: another file under the old name."""
    new = path.with_suffix(".new")
    new.touch(mode=mode)
    new.write_text(f"{key}\n")
    new.chmod(mode)
    new.replace(path)
