"""What a request may cost others: memory while it waits and streams, and a slow reader's burden.

``python -m loadtests.bounds`` takes four minutes, with ``--quick`` one; it writes
``bounds.json``, and ``slow-reader.json`` beside it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench import memory, slow_reader
from loadtests.bench.machine import RESULTS, keep
from loadtests.bench.memory import Memory, Size
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
    size = Size(waiting=1000, streams=100, tokens=60) if given.quick else Size()
    held = play(memory.run(size))
    keep(held, given.out)
    print(told(held))
    slow = play(slow_reader.run(*((1, 100) if given.quick else (5,))))
    keep(slow, given.out.with_name("slow-reader.json"))
    print(told_slow(slow))


if __name__ == "__main__":
    main()
