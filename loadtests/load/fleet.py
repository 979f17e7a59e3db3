"""Several generator processes that make one load together."""

import asyncio
import os
import resource
import struct
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
LEAD_SECONDS: Final = 0.05
"""From the word that all are ready to the moment at which all begin."""

READY: Final = b"+"
_SIZE: Final = struct.Struct("<I")
_MOMENT: Final = struct.Struct("<d")


class Share(msgspec.Struct, frozen=True):
    """What one process is told; when to begin it hears when all of them are ready."""

    plan: Plan
    part: int
    parts: int


class Result(msgspec.Struct, frozen=True):
    """What one process tells."""

    samples: list[Sample]
    cpu_seconds: float


async def measure(
    plan: Plan, processes: int, began: "asyncio.Future[float] | None" = None
) -> Summary:
    """Make the load with so many processes and sum up. Raises RuntimeError if one of them fails.

    `began` is told the moment at which they begin, by `perf_counter`.
    """
    # All at the same moment, however long an interpreter takes to start on a busy machine.
    start: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    gate = Gate(processes, began or start)
    shares = [Share(plan, part, processes) for part in range(processes)]
    results = await asyncio.gather(*(_child(share, gate) for share in shares))
    samples = [sample for result in results for sample in result.samples]
    return summary(samples, sum(result.cpu_seconds for result in results))


class Gate:
    """Opens when everybody is there."""

    def __init__(self, parties: int, opened: "asyncio.Future[float]") -> None:
        self._left = parties
        self._opened = opened

    async def passed(self) -> float:
        """Be there, and wait for the others: the moment to begin."""
        self._left -= 1
        if not self._left:
            # perf_counter is the system's monotonic clock on Linux: the same in every process.
            self._opened.set_result(perf_counter() + LEAD_SECONDS)
        return await asyncio.shield(self._opened)


def cpu_seconds() -> float:
    """What this process has used so far, in user and system mode."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _child(share: Share, gate: Gate) -> Result:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtests.load.fleet"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told = msgspec.msgpack.encode(share)
        process.stdin.write(_SIZE.pack(len(told)) + told)
        await process.stdout.readexactly(len(READY))
        out, _ = await process.communicate(_MOMENT.pack(await gate.passed()))
    except asyncio.IncompleteReadError:
        await process.wait()
        raise RuntimeError("a generator process does not start") from None
    except BaseException:
        if process.returncode is None:
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"a generator process ended with {process.returncode}")
    return msgspec.msgpack.decode(out, type=Result)


def main() -> None:
    """One process of the fleet: a Share on standard input, a Result on standard output."""
    read = sys.stdin.buffer.read
    share = msgspec.msgpack.decode(read(*_SIZE.unpack(read(_SIZE.size))), type=Share)
    # Standard output may be unbuffered (PYTHONUNBUFFERED), and then writes only a part of much.
    with os.fdopen(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(READY)
        out.flush()
        (start,) = _MOMENT.unpack(read(_MOMENT.size))
        before = cpu_seconds()  # what the imports took is no part of the load
        load = run(share.plan, start=start, part=share.part, parts=share.parts)
        result = Result(uvloop.run(load), cpu_seconds() - before)
        out.write(msgspec.msgpack.encode(result))


if __name__ == "__main__":
    main()
