"""The load generator: beside engines that work, engines that fail, and a relay that lies."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

import pytest

from loadtests.load.fleet import measure
from loadtests.load.loops import run
from loadtests.load.plans import Arrivals, Bursts, Closed, Plan, Poisson
from loadtests.load.samples import Sample
from loadtests.sim.process import Running, running


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Running]:
    with running("--uds", str(tmp_path / "e.sock"), "--port", "0") as engine:
        yield engine


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("arrivals", [Closed(8), Poisson(100), Bursts(10, 0.1)])
async def test_every_token_is_checked(engine: Running, arrivals: Arrivals, stream: bool) -> None:
    plan = Plan(
        target=engine.addresses[1], arrivals=arrivals, seconds=1, requests=50, stream=stream
    )
    result = await measure(plan, 2)
    assert result.outcomes == {"ok": 50}
    assert result.first_token_ms.p50 > 0
    assert result.tokens_per_second > 0
    assert result.generator_cpu_seconds > 0


async def some(target: str, **more: float) -> list[Sample]:
    plan = Plan(target=target, arrivals=Closed(2), requests=6, tokens=10, **more)  # type: ignore[arg-type]
    return await run(plan, start=perf_counter())


async def test_gaps_follow_the_engine(tmp_path: Path) -> None:
    with running("--uds", str(tmp_path / "e.sock"), "--delay-ms", "10") as engine:
        samples = await some(engine.address)
    assert [(sample.outcome, len(sample.gaps)) for sample in samples] == [("ok", 9)] * 6
    # A busy machine makes single gaps longer, and the next one shorter.
    assert 0.06 < median(sum(sample.gaps) for sample in samples) < 1


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (["--status", "503"], "status 503"),
        (["--hang"], "timeout"),
        (["--die-after-tokens", "3"], "cut"),
        (["--model", "other"], "status 404"),
    ],
)
async def test_faults_are_told(tmp_path: Path, fault: list[str], outcome: str) -> None:
    with running("--uds", str(tmp_path / "e.sock"), *fault) as engine:
        samples = await some(engine.address, timeout=0.3 if outcome == "timeout" else 20)
    assert len(samples) == 6
    # Where the engine has died, those to come find nobody.
    assert {sample.outcome for sample in samples} <= {outcome, "no connection"}
    assert samples[0].outcome == outcome


async def test_nobody_there(tmp_path: Path) -> None:
    outcomes = {sample.outcome for sample in await some(f"unix:{tmp_path}/nothing.sock")}
    assert outcomes == {"no connection"}


EVENTS = re.compile(rb"[0-9a-f]+\r\ndata: [^\n]*\n\n\r\n")


def lost(events: list[bytes]) -> list[bytes]:
    return events[:4] + events[5:]


def doubled(events: list[bytes]) -> list[bytes]:
    return events[:4] + events[3:]


def swapped(events: list[bytes]) -> list[bytes]:
    return [*events[:3], events[4], events[3], *events[5:]]


def unfinished(events: list[bytes]) -> list[bytes]:
    return events[:-1]


@pytest.mark.parametrize(
    ("lie", "outcome"),
    [
        (lost, "wrong text"),
        (doubled, "wrong text"),
        (swapped, "wrong text"),
        (unfinished, "incomplete"),
    ],
)
async def test_no_lie_goes_unseen(
    tmp_path: Path, engine: Running, lie: Callable[[list[bytes]], list[bytes]], outcome: str
) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(engine.address.removeprefix("unix:"))
        while request := await reader.read(65536):
            ours.write(request)
            answer = await theirs.readuntil(b"\r\n0\r\n\r\n")
            writer.write(answer[: answer.index(b"\r\n\r\n") + 4])
            writer.write(b"".join(lie(EVENTS.findall(answer))) + b"0\r\n\r\n")
        ours.close()
        writer.close()

    socket = tmp_path / "relay.sock"
    async with await asyncio.start_unix_server(relay, socket):
        outcomes = [sample.outcome for sample in await some(f"unix:{socket}")]
        await asyncio.sleep(0.05)  # the relay sees that we have left
    assert outcomes == [outcome] * 6
