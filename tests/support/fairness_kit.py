"""Many users of one model before real edges, queue and workers: who waits for how long."""

import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from headrace.devcluster.loopback import free_port
from headrace.gateway.policy import api_keys
from tests.support.nats_kit import StartNats
from tests.support.parts import ROOT
from tests.support.worker_kit import MODEL, NAME, SIM, Stand, toml

DELAY_SECONDS: Final = 0.02
"""From token to token: the engine's slots are the bottleneck, and not this machine."""

AGAIN_SECONDS: Final = 0.5
"""After so long, more or less, a client that was cut off or refused comes again; each time it waits
twice as long as before, as clients do."""

RESTART_SECONDS: Final = 2.5
"""So long an edge is away that is restarted."""
GIVE_UP_SECONDS: Final = 45.0

QUEUE_BYTES: Final = 1 << 27


class Ask(msgspec.Struct, frozen=True):
    """What a user will ask: `at` seconds after the start, for so many tokens."""

    user: str
    at: float
    tokens: int
    stream: bool = True
    back: float = 0.5
    """Within so many seconds it is asked again when an edge is back, and there was no other one."""


class Seen(msgspec.Struct):
    """What came of it, in seconds since it was to be asked, or since it came back."""

    ask: Ask
    first: float = 0.0
    """Until the first token."""
    whole: float = 0.0
    """Until the end."""
    tries: int = 0
    refused: int = 0
    """How many of the tries ended with 429."""
    ok: bool = False


class Waits(msgspec.Struct, frozen=True):
    """How long some waited, in seconds."""

    mean: float
    median: float
    ninth: float
    """The 90th percentile."""

    def times(self, other: "Waits") -> tuple[float, float, float]:
        """How many times as long as others: mean, median and 90th percentile."""
        return self.mean / other.mean, self.median / other.median, self.ninth / other.ninth

    def __str__(self) -> str:
        told = (round(each * 1000) for each in (self.mean, self.median, self.ninth))
        return "{}/{}/{}".format(*told)


def waits(values: Iterable[float]) -> Waits:
    """The figures of some waiting times."""
    known = sorted(values)
    return Waits(
        statistics.mean(known), statistics.median(known), statistics.quantiles(known, n=10)[-1]
    )


class Edge:
    """An edge process that can be ended and comes back on its port."""

    def __init__(self, folder: Path, config: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._argv = [sys.executable, "-m", "headrace.edge.main", "--config", str(config)]
        self._env = os.environ | {"HEADRACE_EDGE__PORT": str(port)}
        self._log = folder / f"edge-{port}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.up = asyncio.Event()
        """Whether clients may come."""

    def start(self) -> None:
        """Start it, without waiting for it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, stdout=log, stderr=log, env=self._env, cwd=ROOT
            )

    def open(self) -> None:
        """Let clients come."""
        self.up.set()

    async def end(self, number: signal.Signals, seconds: float = 15.0) -> None:
        """Send it a signal that ends it, and wait for that; its clients are to wait, too."""
        self.up.clear()
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(number)
            await asyncio.to_thread(process.wait, seconds)

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def told(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-3000:]


class Town:
    """Users with a key each, edges, a queue, and workers in one cluster or several."""

    def __init__(
        self, keys: dict[str, str], edges: list[Edge], http: aiohttp.ClientSession
    ) -> None:
        self.edges = edges
        self.answered: Counter[str] = Counter()
        """How many requests of each user have been answered."""
        self._keys = keys
        self._http = http

    async def live(self, asks: Iterable[Ask]) -> list[Seen]:
        """Ask all of it, each at its time from now."""
        start = time.monotonic()
        return await asyncio.gather(
            *(self._ask(ask, number, start) for number, ask in enumerate(asks))
        )

    async def restart(self, at: float, number: signal.Signals) -> None:
        """End the first edge with a signal `at` seconds from now, and start it again."""
        await asyncio.sleep(at)
        edge = self.edges[0]
        await edge.end(number)
        ended = time.monotonic()
        edge.start()
        await ready(edge, self._http, next(iter(self._keys.values())))
        # As long with a flood as without one: how long this machine takes is another matter.
        await asyncio.sleep(ended + RESTART_SECONDS - time.monotonic())
        edge.open()

    async def _ask(self, ask: Ask, number: int, start: float) -> Seen:
        begin = start + ask.at
        await asyncio.sleep(begin - time.monotonic())
        seen = Seen(ask)
        chance = random.Random(f"{ask.user} {number}")
        while not seen.ok and time.monotonic() - begin < GIVE_UP_SECONDS:
            # In turns: of a user's requests every edge sees its part.
            turn = (number + seen.tries) % len(self.edges)
            in_turn = [*self.edges[turn:], *self.edges[:turn]]
            edge = next((each for each in in_turn if each.up.is_set()), in_turn[0])
            if not edge.up.is_set():
                await edge.up.wait()
                await asyncio.sleep(chance.uniform(0, ask.back))
                begin = time.monotonic()
            seen.tries += 1
            seen.first = 0.0
            with contextlib.suppress(aiohttp.ClientError):
                await self._try(edge.url, seen, begin)
            if not seen.ok:
                again = AGAIN_SECONDS * 2 ** (seen.tries - 1)
                await asyncio.sleep(again * chance.uniform(0.5, 1.5))
        seen.whole = time.monotonic() - begin
        self.answered[ask.user] += seen.ok
        return seen

    async def _try(self, url: str, seen: Seen, begin: float) -> None:
        ask = seen.ask
        body = {
            "model": NAME,
            "messages": [{"role": "user", "content": ask.user}],
            "max_tokens": ask.tokens,
            "stream": ask.stream,
        }
        headers = {"authorization": f"Bearer {self._keys[ask.user]}"}
        async with self._http.post(
            f"{url}/v1/chat/completions", json=body, headers=headers
        ) as answer:
            if answer.status != 200:
                seen.refused += answer.status == 429
            elif ask.stream:
                async for line in answer.content:
                    seen.ok |= line.startswith(b"data: [DONE]")
                    if not seen.first and b'"content":"' in line and b'"content":""' not in line:
                        seen.first = time.monotonic() - begin
            else:
                told = await answer.json()
                seen.ok = told["usage"]["completion_tokens"] == ask.tokens


@contextlib.asynccontextmanager
async def town(
    start: StartNats, folder: Path, users: list[str], *, clusters: int, edges: int, slots: int
) -> AsyncIterator[Town]:
    """`slots` slots in all, in two workers, for `users`; nothing is left of it afterwards."""
    names = tuple(f"c{number + 1}" for number in range(clusters))
    async with Stand.around(start, folder, names) as stand, contextlib.AsyncExitStack() as stack:
        await asyncio.gather(
            *(
                stand.worker(
                    cluster=names[number % clusters],
                    slots=slots // 2,
                    bus={
                        "url": stand.pair.leaf_urls[names[number % clusters]],
                        "nkey_file": stand.pair.key("worker"),
                    },
                    engine={
                        "kind": "command",
                        "command": [*SIM, "--delay-ms", str(DELAY_SECONDS * 1000)],
                    },
                )
                for number in range(2)
            )
        )
        keys = {user: api_keys.mint() for user in users}
        config = _edge_config(folder, keys, stand)
        running = [Edge(folder, config, free_port()) for _ in range(edges)]
        for edge in running:
            edge.start()
            stack.callback(edge.kill)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=aiohttp.ClientTimeout(total=GIVE_UP_SECONDS),
            )
        )
        for edge in running:
            await ready(edge, http, keys[users[0]])
            edge.open()
        yield Town(keys, running, http)


async def ready(edge: Edge, http: aiohttp.ClientSession, key: str) -> None:
    """Wait until it serves, and knows the workers."""
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            headers = {"authorization": f"Bearer {key}"}
            async with http.get(f"{edge.url}/readyz") as answer:
                serves = answer.status == 200
            async with http.get(f"{edge.url}/v1/models", headers=headers) as answer:
                told = await answer.json() if answer.status == 200 else {"data": []}
                if serves and any(each["headrace"]["workers"] == 2 for each in told["data"]):
                    return
        assert time.monotonic() < deadline, edge.told()
        await asyncio.sleep(0.05)


def _edge_config(folder: Path, keys: dict[str, str], stand: Stand) -> Path:
    secret = api_keys.create_secret(folder / "api.secret")
    bus = {"url": stand.pair.hub_url, "nkey_file": stand.pair.key("edge")}
    lines = [
        'secret_file = "api.secret"',
        "learn_seconds = 0",
        "drain_seconds = 1",
        f"bus = {toml(bus)}",
        f"queue = {toml({'max_bytes': QUEUE_BYTES})}",
        f"[[models]]\nname = {json.dumps(NAME)}\nslug = {json.dumps(MODEL)}",
        *(
            f"[[keys]]\nid = {json.dumps(user)}\n"
            f"digest = {json.dumps(api_keys.digest(secret, key))}"
            for user, key in keys.items()
        ),
    ]
    file = folder / "edge.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def rounds(
    users: list[str], *, every: float, count: int, each: int, spread: float, seed: int
) -> list[Ask]:
    """Every `every` seconds each user asks `each` things, within `spread` seconds."""
    chance = random.Random(seed)
    return sorted(
        (
            Ask(user, number * every + chance.uniform(0, spread), chance.randint(5, 15))
            for number in range(count)
            for user in users
            for _ in range(each)
        ),
        key=lambda ask: ask.at,
    )
