"""The measuring bench: ``python -m loadtests.bench``, or ``make bench``.

It measures the engine, LiteLLM, the reference's way and Headrace side by side, each part of
Headrace alone, and what grows with what; it writes JSON, plots and a page that says it all.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loadtests.bench import report
from loadtests.bench.aims import aims
from loadtests.bench.machine import RESULTS
from loadtests.bench.places import ROOT
from loadtests.bench.playing import play
from loadtests.bench.results import FILES
from loadtests.bench.run import FULL, QUICK, SMOKE, run

PARTS: Final = [name for name in FILES if name != "run"]
MARKS: Final = {True: "met", False: "NOT MET", None: ""}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure as the command line says; 1 where a part failed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.split("\n")[0])
    add = parser.add_argument
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="some three minutes, not some twenty")
    sizes.add_argument("--smoke", action="store_true", help="only whether it works, without rivals")
    add("--only", nargs="+", choices=PARTS, default=[], help="these parts alone")
    add("--report", action="store_true", help="measure nothing: write the page from what is there")
    add("--out", type=Path, default=RESULTS, help="the folder for results")
    add(
        "--traces", type=Path, default=ROOT.parent / "shared" / "data",
        help="the folder with recorded arrivals",
    )  # fmt: skip
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    size = SMOKE if given.smoke else QUICK if given.quick else FULL
    failed: list[str] = []
    if not given.report:
        try:
            failed = play(run(size, set(given.only), given.out, given.traces))
        except asyncio.CancelledError:
            sys.exit("ended by a signal; what was measured before is kept")
    for aim in aims(report.write(given.out)):
        print(f"{aim.measure}: {aim.reached} (aim {aim.aim}) {MARKS[aim.met]}")
    print(f"\nkept in {given.out}/README.md", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
