"""A simulated OpenAI-compatible engine: ``python -m loadtests.simengine --uds engine.sock``.

It speaks like vLLM, token for token (`loadtests.words` knows what it says), and is much faster
than what stands before it, so that a measurement shows the path and not the engine. Its first
line of output tells where it listens; SIGTERM and SIGINT end it.
"""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from loadtests.sim.engine import Engine
from loadtests.sim.http import Http
from loadtests.sim.options import Options, parse


async def serve(options: Options) -> None:
    """Serve until a signal."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    engine = Engine(options)
    if options.load_silent and not engine.loaded:
        await _first(stop, options.load_seconds)
        engine.loaded = True
    async with AsyncExitStack() as servers:
        for where, server in await _listen(engine):
            servers.push_async_callback(_close, server)
            print(f"listening: {where}", flush=True)
        if not engine.loaded:
            await _first(stop, options.load_seconds)
            engine.loaded = True
        await stop.wait()
        for connection in list(engine.connections):
            connection.close()


async def _listen(engine: Engine) -> list[tuple[str, asyncio.Server]]:
    loop = asyncio.get_running_loop()
    options = engine.options
    servers = []
    if options.uds:
        server = await loop.create_unix_server(lambda: Http(engine), options.uds, backlog=4096)
        servers.append((f"unix:{options.uds}", server))
    if options.port >= 0:
        server = await loop.create_server(
            lambda: Http(engine), options.host, options.port, backlog=4096
        )
        port = server.sockets[0].getsockname()[1]
        servers.append((f"http://{options.host}:{port}", server))
    return servers


async def _close(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()


async def _first(stop: asyncio.Event, seconds: float) -> None:
    """Wait for the stop or for the time to pass."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


def main(argv: Sequence[str] | None = None) -> None:
    """Run the engine with command line arguments."""
    options = parse(argv)
    if options.uds:
        # A socket's file outlives its process.
        Path(options.uds).unlink(missing_ok=True)
    uvloop.run(serve(options))


if __name__ == "__main__":
    main()
