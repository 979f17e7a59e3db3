"""What a request may cost others: memory while it waits and streams, and a slow reader's burden.

``python -m loadtests.bounds`` takes four minutes, with ``--quick`` one; it writes
``bounds.json``, and ``slow-reader.json`` beside it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench import memory, slow_reader, stages
from loadtests.bench.machine import RESULTS, keep
from loadtests.bench.memory import Memory
from loadtests.bench.playing import play
from loadtests.bench.slow_reader import SlowReader


def told(found: Memory) -> str:
    """Memory for people."""
    lines = [
        "KiB per request",
        f"{found.waiting} wait: {found.waiting_kib:.1f} edge, {found.waiting_hub_kib:.1f} hub",
    ]
    lines += [
        f"{found.streams} stream, {each.tokens} tokens so far: "
        f"{each.edge_kib:.1f} edge, {each.worker_kib:.1f} worker"
        for each in found.streaming
    ]
    return "\n".join([*lines, f"outcomes of the streams: {found.outcomes}"])


def told_slow(found: SlowReader) -> str:
    """The slow reader for people."""
    lines = [
        f"{found.streams} streams, slow reader {kind}: median gap {each.gap_p50_ms:.2f} ms, "
        f"99 % {each.gap_p99_ms:.2f} ms"
        for kind, each in found.kinds.items()
    ]
    return "\n".join([*lines, f"ratio {found.ratio:.3f} (aim below {found.aim})"])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and keep the results."""
    parser = argparse.ArgumentParser(prog="bounds", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    parser.add_argument("--out", type=Path, default=RESULTS / "bounds.json")
    given = parser.parse_args(argv)
    small, slow = memory.Size(waiting=1000, streams=100, tokens=60), slow_reader.Size(rounds=1)
    sizes = (small, slow) if given.quick else (memory.Size(), slow_reader.Size())
    play(measure(*sizes, given.out))


async def measure(held: memory.Size, slow: slow_reader.Size, out: Path) -> None:
    """Measure both, each on a stage of its own, and keep what each comes to."""
    async with stages.opened() as stage:
        memory_found = await memory.run(stage, held)
    keep(memory_found, out)
    print(told(memory_found))
    async with stages.opened() as stage:
        slow_found = await slow_reader.run(stage, slow)
    keep(slow_found, out.with_name("slow-reader.json"))
    print(told_slow(slow_found))


if __name__ == "__main__":
    main()
