"""What the measuring tools themselves can do: a result near these is the tools', not the path's.

The engine under the generator, in requests of 30 tokens, each token a write of its own; the
generator under a server that costs next to nothing; and how late an open loop begins its requests.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from headrace.cli.demo import probes
from headrace.devcluster.loopback import free_port
from loadtests.bench.machine import Machine, machine
from loadtests.bench.metered import Metered, metered
from loadtests.bench.models import FAST
from loadtests.bench.parts import Running
from loadtests.bench.stage import Stage
from loadtests.load.plans import Closed, Plan, Poisson

STREAMS: Final = 64
TOKENS: Final = 30
PROCESSES: Final = 2
OPEN_RATE: Final = 500.0


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """The result. `..._per_core` is the rate by the seconds of processor time of that part alone.

    `late_p99_ms` is of Poisson arrivals at `open_rate` requests/s, by so many processes.
    """

    machine: Machine
    tokens: int
    generators: int
    engine_per_second: float
    engine_per_core: float
    engine_tokens_per_core: float
    generator_per_second: float
    generator_per_core: float
    open_rate: float
    open_reached: float
    late_p50_ms: float
    late_p99_ms: float


async def run(stage: Stage, seconds: float) -> Ceilings:
    """Measure each for so long. Raises NotServing, RuntimeError."""
    on = machine()
    await stage.serve(FAST)
    load = Plan(
        target=stage.engine_socket(FAST), arrivals=Closed(STREAMS), seconds=seconds,
        tokens=TOKENS, model=FAST.name,
    )  # fmt: skip
    engine = await well(load, {"engine": stage.pid(f"engine-{FAST.name}")})
    poisson = msgspec.structs.replace(load, arrivals=Poisson(OPEN_RATE))
    opened = await well(poisson, {})
    async with canned() as url:
        plan = msgspec.structs.replace(load, target=url, verify=False)
        generator = await well(plan, {})
    used = engine.costs["engine"].cpu_seconds or 1e-9
    generated = generator.summary.generator_cpu_seconds or 1e-9
    found = Ceilings(
        machine=on,
        tokens=TOKENS,
        generators=PROCESSES,
        engine_per_second=engine.summary.requests_per_second,
        engine_per_core=engine.summary.requests / used,
        engine_tokens_per_core=engine.summary.requests * TOKENS / used,
        generator_per_second=generator.summary.requests_per_second,
        generator_per_core=generator.summary.requests / generated,
        open_rate=OPEN_RATE,
        open_reached=opened.summary.requests_per_second,
        late_p50_ms=opened.summary.late_ms.p50,
        late_p99_ms=opened.summary.late_ms.p99,
    )
    print(told(found), flush=True)
    return found


async def well(plan: Plan, roots: dict[str, int]) -> Metered:
    """A load in which nothing goes wrong, or RuntimeError."""
    made = await metered(plan, PROCESSES, roots)
    if set(made.summary.outcomes) != {"ok"}:
        raise RuntimeError(f"requests went wrong: {made.summary.outcomes}")
    return made


@asynccontextmanager
async def canned() -> AsyncIterator[str]:
    """A server that costs next to nothing."""
    port = free_port()
    argv = [sys.executable, "-m", "loadtests.bench.canned", "--port", str(port)]
    with TemporaryDirectory(prefix="hr-canned-") as folder:
        running = Running("canned", argv, {}, Path(folder) / "log")
        try:
            await running.ready(probes.listens(port))
            yield f"http://127.0.0.1:{port}"
        finally:
            await running.end()


def told(found: Ceilings) -> str:
    """The ceilings for people."""
    return (
        f"    engine: {found.engine_per_second:.0f} requests/s of {found.tokens} tokens, "
        f"{found.engine_per_core:.0f} per core\n"
        f"    generator ({found.generators} processes): {found.generator_per_second:.0f} "
        f"requests/s, {found.generator_per_core:.0f} per core\n"
        f"    open loop at {found.open_rate:.0f}/s: {found.open_reached:.0f}/s, "
        f"late by {found.late_p50_ms:.2f} ms, 99 % {found.late_p99_ms:.2f} ms"
    )
