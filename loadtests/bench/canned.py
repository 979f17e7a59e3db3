"""A server that answers everything at once with the same bytes: what loads the generator alone.

``python -m loadtests.bench.canned --port PORT`` answers every request on the loopback with a
streamed chat answer of 30 tokens, in one write.
"""

import argparse
import asyncio
import signal
from collections.abc import Sequence
from typing import Final, cast

import uvloop

from loadtests.sim.bodies import Task
from loadtests.sim.events import HEAD, Events
from loadtests.words import Prompt

TOKENS: Final = 30


def answer(tokens: int = TOKENS) -> bytes:
    """A whole response."""
    task = Task(
        chat=True, prompt=Prompt(bytes(16), 16), count=tokens, finish="length", stream=True,
        usage=False, ids=False, id="chatcmpl-0123456789abcdef", created=1,
    )  # fmt: skip
    events = Events(task, "canned")
    return b"".join([HEAD, events.first(), *(events.token() for _ in range(tokens))])


class Canned(asyncio.Protocol):
    """A connection. A small request comes in one piece on the loopback, so pieces are counted."""

    def __init__(self, response: bytes) -> None:
        self._response = response
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        self._transport.write(self._response)


async def serve(port: int) -> None:
    """Serve until a signal."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    response = answer()
    server = await loop.create_server(lambda: Canned(response), "127.0.0.1", port)
    await stop.wait()
    server.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(prog="canned", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args(argv).port))


if __name__ == "__main__":
    main()
