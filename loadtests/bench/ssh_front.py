"""A baseline, not a part of Headrace: the reference's way of carrying requests over SSH.

As section 5.4 of the paper on Chat AI describes it: an HTTP proxy on the web machine passes each
request to a command on the service node, over one SSH connection that is kept open. Here that is
an ssh client process per request, which joins the connection through its control socket, and a
forced command that runs curl against the engine. The reference's own script also looks up the
service in its routing table; ours knows the engine's port, so it does less.

``python -m loadtests.bench.ssh_front --port PORT --engine NAME=CONTROL_SOCKET ...`` serves
``/NAME/v1/chat/completions``, whole or streamed.
"""

import argparse
import asyncio
from asyncio.subprocess import Process
from collections.abc import Sequence
from typing import Final

import uvicorn
from starlette.types import Receive, Scope, Send

READ_BYTES: Final = 65_536


class Front:
    """The HTTP side, in plain ASGI. `engines` are control sockets by name."""

    def __init__(self, engines: dict[str, str]) -> None:
        self._engines = engines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        socket = self._engines.get(scope["path"].split("/")[1])
        body = await _body(receive)
        if socket is None or scope["method"] != "POST":
            await _reply(send, 404)
            return
        # All but the socket is spared: no configuration file is read, no terminal asked for.
        process = await asyncio.create_subprocess_exec(
            *("ssh", "-F", "none", "-T", "-S", socket, "service-node"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        leaving = asyncio.create_task(_end_with_client(process, receive))
        try:
            await _pass_on(process, body, send)
        finally:
            leaving.cancel()
            await process.wait()


async def _pass_on(process: Process, body: bytes, send: Send) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(body)
    process.stdin.write_eof()
    data = await process.stdout.read(READ_BYTES)
    if not data:
        await _reply(send, 502)
        return
    await _start(send, 200)
    while data:
        await send({"type": "http.response.body", "body": data, "more_body": True})
        data = await process.stdout.read(READ_BYTES)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _end_with_client(process: Process, receive: Receive) -> None:
    """End the ssh client, and with it curl and the engine's work, when nobody waits any more."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if process.returncode is None:
        process.kill()


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _start(send: Send, status: int) -> None:
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _reply(send: Send, status: int) -> None:
    await _start(send, status)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def main(argv: Sequence[str] | None = None) -> None:
    """Serve on the loopback until a signal."""
    parser = argparse.ArgumentParser(prog="ssh_front", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--engine", action="append", required=True, metavar="NAME=SOCKET")
    given = parser.parse_args(argv)
    engines = dict(each.split("=", 1) for each in given.engine)
    # The same server, loop and parser as Headrace's edge.
    uvicorn.run(
        Front(engines), host="127.0.0.1", port=given.port, loop="uvloop", http="httptools",
        ws="none", lifespan="off", log_level="error", access_log=False, backlog=4096,
    )  # fmt: skip


if __name__ == "__main__":
    main()
