"""Faults at length: every fault in every phase, then many requests through faults at random.

Writes ``loadtests/results/faults.md``, and fails if one request was lost, doubled or left hanging.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from tests.faults.harness import cell, report, scaler, storm
from tests.faults.harness.cell import Result
from tests.faults.harness.faults import FAULTS, Blow, Fault
from tests.faults.harness.phases import Phase
from tests.faults.harness.site import Plan, Site, running
from tests.faults.harness.storm import Storm
from tests.support import processes
from tests.support.parts import ROOT, why_missing

RESULTS = ROOT / "loadtests/results/faults.md"
STORM = Plan(slots=16, engine_slots=12, deadline_seconds=300.0)


class Run:
    """What was asked for, and what was found."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.results: list[Result] = []
        self.troubles: list[str] = []
        self.storm = Storm(options.requests, options.seed, options.streams, minutes=options.minutes)

    @property
    def well(self) -> bool:
        """Whether nothing was found that may not be."""
        bad = any(each.bad or each.left_over for each in self.results)
        return not bad and not self.troubles and not self.storm.bad

    async def matrix(self) -> None:
        """Every fault in every phase."""
        part = self.options.part
        todo = [(fault, phase) for fault in FAULTS for phase in Phase if part in {"", fault.part}]
        todo.reverse()
        async with asyncio.TaskGroup() as sites:
            for _ in range(self.options.sites):
                sites.create_task(self._cells(todo))

    async def _cells(self, todo: list[tuple[Fault, Phase]]) -> None:
        """All that is left to do; on a fresh site after one that did not come back."""
        while todo:
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                async with running(Path(folder), self._plan(Plan())) as site:
                    while todo and await self._cell(site, *todo.pop()):
                        pass

    async def _cell(self, site: Site, fault: Fault, phase: Phase) -> bool:
        blow = Blow(fault, site.workers[0])
        if not blow.possible(site):
            say(f"NOT POSSIBLE HERE: {fault.name}: it takes root and a mount")
            self.storm.skipped.add(fault.name)
            return True
        try:
            self._note(await cell.run(site, blow, phase))
        except AssertionError as error:
            self.troubles.append(f"{fault.name}, {phase}: {str(error).splitlines()[0]}")
            say(f"{fault.name}, {phase}: {error}")
            return False
        return True

    async def scaler(self) -> None:
        """The row of the scaler, which takes a Slurm."""
        if missing := why_missing("slurm"):
            say(f"NOT POSSIBLE HERE: faults of the scaler: {missing}")
            self.storm.skipped.add("scaler")
            return
        async for result in scaler.cells(self.folder / "scaler"):
            self._note(result)

    async def random(self) -> None:
        """The storm."""
        async with running(self.folder / "storm", self._plan(STORM)) as site:
            await storm.run(site, self.storm, say)
            try:
                await site.ready(cell.READY_SECONDS)
            except AssertionError as error:
                self.troubles.append(f"after the storm: {str(error).splitlines()[0]}")
                say(str(error))

    def _plan(self, plan: Plan) -> Plan:
        return msgspec.structs.replace(plan, continues=self.options.continues)

    def _note(self, result: Result) -> None:
        self.results.append(result)
        ends = Counter(f"{each.kind} {each.detail}".strip() for each in result.verdicts)
        told = ", ".join(f"{count} {end}" for end, count in ends.most_common())
        left = f", and the queue holds {result.left_over}" if result.left_over else ""
        say(f"{result.blow.fault.name}, {result.phase}, {result.slowest:.1f} s: {told}{left}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    add = parser.add_argument
    add("--requests", type=int, default=10_000, help="through faults at random")
    add("--seed", type=int, default=1, help="the same requests and faults for the same seed")
    add("--minutes", type=float, default=60.0, help="by then the faults at random end")
    add("--streams", type=int, default=24, help="requests at a time")
    add("--sites", type=int, default=2, help="work on the phases side by side: a cell mostly waits")
    add("--no-matrix", dest="matrix", action="store_false", help="leave out the phases")
    add("--part", default="", help="of the phases only those of this part")
    add("--continues", default="tokens", help="how engines go on after others: tokens, text or no")
    add("--output", type=Path, default=RESULTS, help="the page that is written")
    return parser.parse_args(argv)


async def play(options: argparse.Namespace, words: str) -> bool:
    """Do it all, and write the page; whether everything was well."""
    with tempfile.TemporaryDirectory(prefix="hr-faults-") as folder:
        run = Run(options, Path(folder))
        try:
            async with asyncio.TaskGroup() as all_of_it:
                if options.matrix:
                    all_of_it.create_task(run.matrix())
                if options.requests:
                    all_of_it.create_task(run.random())
            if options.matrix and options.part in {"", "scaler"}:
                await run.scaler()  # by itself: it looks at how soon things happen
        finally:
            options.output.write_text(report.page(run.storm, run.results, words, run.troubles))
            say(f"written: {options.output}")
    return run.well


def say(line: str) -> None:
    """Tell the person in front."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run with the arguments of the command line."""
    processes.mark()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left behind
    given = " ".join(sys.argv[1:])
    words = f"make faults ARGS='{given}'" if given else "make faults"
    if not uvloop.run(play(parse(None), words)):
        sys.exit("faults: not all was well; the page says what")


if __name__ == "__main__":
    main()
