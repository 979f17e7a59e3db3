"""``python -m tests.model``: thousands of histories, each decided by its seed.

A seed that breaks an invariant is played once more, and its history printed.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from tests.model.broken import BROKEN, broken
from tests.model.many import Tally, portions
from tests.model.world import run

SHOWN = 3
"""So many histories are printed at most."""


def show(seed: int, how: str) -> None:
    """One history, line by line."""
    with broken(how):
        done = run(seed, kept=True)
    print(f"seed {seed}: {done.failure or 'all invariants held'}\n")
    print("\n".join(done.history.lines), end="\n\n")


def table(title: str, counts: Counter[str]) -> list[str]:
    """A table in Markdown, the most frequent first."""
    rows = [f"| {name} | {count:,} |" for name, count in counts.most_common()]
    return [f"| {title} | times |", "|---|---:|", *rows, ""]


def report(tally: Tally, first: int, seconds: float) -> str:
    """The page that is kept."""
    verdict = (
        "No invariant was broken."
        if not tally.failures
        else f"**{len(tally.failures):,} histories broke an invariant**, the first of them seed "
        f"{tally.failures[0][0]}: {tally.failures[0][1]}."
    )
    lines = [
        "# The protocol in virtual time",
        "",
        "Edge, queue, workers and a network that drops, delays, doubles and reorders:",
        "[`tests/model`](../../tests/model), made by `make model`.",
        "",
        f"{tally.seeds:,} histories (seeds {first:,} to {first + tally.seeds - 1:,}),",
        f"{tally.steps:,} events, in {seconds:,.0f} s. {verdict}",
        "",
        *table("fault", tally.faults),
        *table("end of a request", tally.outcomes),
        *table("turn", tally.seen),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Play, print, and keep the result where asked; 1 where an invariant was broken."""
    parser = argparse.ArgumentParser(prog="model", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--seeds", type=int, default=5000, help="how many")
    add("--first", type=int, default=0, help="the first one")
    add("--broken", choices=BROKEN, default="", help="break the build on purpose")
    add("--show", action="store_true", help="print the histories of these seeds, whatever comes")
    add("--out", type=Path, help="where to keep the result")
    given = parser.parse_args(argv)
    if given.show:
        for seed in range(given.first, given.first + given.seeds):
            show(seed, given.broken)
        return 0
    begun = perf_counter()
    tally, told = Tally(), begun
    for part in portions(given.first, given.seeds, given.broken):
        tally.add(part)
        if perf_counter() - told > 5 or tally.seeds == given.seeds:
            told = perf_counter()
            print(
                f"{told - begun:6.0f} s  {tally.seeds:,} of {given.seeds:,} histories, "
                f"{len(tally.failures):,} of them broken",
                file=sys.stderr,
            )
    for seed, _ in tally.failures[:SHOWN]:
        show(seed, given.broken)
    for what, count in Counter(text for _, text in tally.failures).most_common(20):
        seed = next(seed for seed, text in tally.failures if text == what)
        print(f"{count:,} times, first in seed {seed}: {what}", file=sys.stderr)
    text = report(tally, given.first, perf_counter() - begun)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    print(text)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
