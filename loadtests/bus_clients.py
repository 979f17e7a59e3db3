"""Our NATS client beside nats-py: processor time per message and per round trip, in one run.

``python -m loadtests.bus_clients`` starts a nats-server and lets both clients do the same in turns.
Processor time is what counts: it hardly depends on what else the machine does.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import nats
import uvloop

from headrace.devcluster.loopback import free_port
from headrace.runtime.logging import setup
from headrace.runtime.nats.bus import Bus, BusOptions
from tests.support.parts import nats_server

MESSAGES: Final = 50_000
TRIPS: Final = 2_000
SUBJECT: Final = "hr.res.0123456789abcdef.0123456789abcdef0123456789abcdef"
FRAME: Final = b"x" * 180
RESULT: Final = Path(__file__).parent / "results" / "bus-clients.json"


async def ours(url: str) -> tuple[float, float]:
    """Microseconds of processor time per message and per round trip, both ends included."""
    a, b = (Bus(setup("bench", "error"), name=name, inbox=f"_INBOX.{name}") for name in "ab")
    for bus in (a, b):
        await bus.connect(BusOptions(url=url))
    all_in = asyncio.Event()
    count = 0

    def on_message(_: object) -> None:
        nonlocal count
        count += 1
        if count == MESSAGES:
            all_in.set()

    await b.subscribe("hr.res.>", on_message)
    await b.subscribe("echo", lambda message: b.send(message.reply, b"ok"))
    await b.flush()
    each = await _messages(lambda: a.publish(SUBJECT, FRAME), all_in)
    trip = await _trips(lambda: a.request("echo", FRAME, timeout=5))
    await a.close()
    await b.close()
    return each, trip


async def theirs(url: str) -> tuple[float, float]:
    """The same with nats-py."""
    a, b = await nats.connect(url), await nats.connect(url)
    all_in = asyncio.Event()
    count = 0

    async def on_message(_: object) -> None:
        nonlocal count
        count += 1
        if count == MESSAGES:
            all_in.set()

    async def echo(message: Any) -> None:
        await b.publish(message.reply, b"ok")

    await b.subscribe("hr.res.>", cb=on_message)
    await b.subscribe("echo", cb=echo)
    await b.flush()
    each = await _messages(lambda: a.publish(SUBJECT, FRAME), all_in)
    trip = await _trips(lambda: a.request("echo", FRAME, timeout=5))
    await a.close()
    await b.close()
    return each, trip


async def _messages(publish: Callable[[], Awaitable[None]], all_in: asyncio.Event) -> float:
    began = time.process_time()
    for number in range(MESSAGES):
        await publish()
        if number % 50 == 0:
            await asyncio.sleep(0)
    await asyncio.wait_for(all_in.wait(), 60)
    return (time.process_time() - began) / MESSAGES * 1e6


async def _trips(ask: Callable[[], Awaitable[object]]) -> float:
    began = time.process_time()
    for _ in range(TRIPS):
        await ask()
    return (time.process_time() - began) / TRIPS * 1e6


def main() -> None:
    """Run, print, and keep the result."""
    parser = argparse.ArgumentParser(prog="bus_clients", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    port = free_port()
    server = subprocess.Popen([nats_server(), "-p", str(port)], stderr=subprocess.DEVNULL)
    url = f"nats://127.0.0.1:{port}"
    try:
        time.sleep(1.0)
        pairs = [(uvloop.run(ours(url)), uvloop.run(theirs(url))) for _ in range(rounds)]
    finally:
        server.terminate()
        server.wait()
    result = {
        "us_per_message": {
            "ours": statistics.median(own[0] for own, _ in pairs),
            "nats_py": statistics.median(other[0] for _, other in pairs),
        },
        "us_per_round_trip": {
            "ours": statistics.median(own[1] for own, _ in pairs),
            "nats_py": statistics.median(other[1] for _, other in pairs),
        },
        "ratio_per_message": statistics.median(other[0] / own[0] for own, other in pairs),
        "ratio_per_round_trip": statistics.median(other[1] / own[1] for own, other in pairs),
        "rounds": rounds,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
