"""Several generator processes that make one load together."""

import asyncio
import os
import resource
import sys
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec
import uvloop

from loadtests.load.loops import run
from loadtests.load.plans import Plan
from loadtests.load.samples import Sample, Summary, summary

ROOT: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 1.0
"""Time for an interpreter to start and import, so that all processes begin at the same moment."""


class Share(msgspec.Struct, frozen=True):
    """What one process is told."""

    plan: Plan
    start: float
    part: int
    parts: int


class Result(msgspec.Struct, frozen=True):
    """What one process tells."""

    samples: list[Sample]
    cpu_seconds: float


async def measure(plan: Plan, processes: int) -> Summary:
    """Make the load with so many processes and sum up. Raises RuntimeError if one of them fails."""
    # perf_counter is the system's monotonic clock on Linux: the same in every process.
    start = perf_counter() + START_SECONDS
    shares = [Share(plan, start, part, processes) for part in range(processes)]
    results = await asyncio.gather(*(_child(share) for share in shares))
    samples = [sample for result in results for sample in result.samples]
    return summary(samples, sum(result.cpu_seconds for result in results))


def cpu_seconds() -> float:
    """What this process has used so far, in user and system mode."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _child(share: Share) -> Result:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtests.load.fleet"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        out, _ = await process.communicate(msgspec.msgpack.encode(share))
    except BaseException:
        process.kill()
        raise
    if process.returncode:
        raise RuntimeError(f"a generator process ended with {process.returncode}")
    return msgspec.msgpack.decode(out, type=Result)


def main() -> None:
    """One process of the fleet: a Share on standard input, a Result on standard output."""
    share = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Share)
    before = cpu_seconds()  # what the imports took is no part of the load
    samples = uvloop.run(run(share.plan, start=share.start, part=share.part, parts=share.parts))
    result = Result(samples, cpu_seconds() - before)
    # Standard output may be unbuffered (PYTHONUNBUFFERED), and then writes only a part of much.
    with os.fdopen(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(msgspec.msgpack.encode(result))


if __name__ == "__main__":
    main()
