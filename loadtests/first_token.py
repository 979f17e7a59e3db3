"""The first-token time that the whole path adds over asking the same engine directly.

``python -m loadtests.first_token``: one run starts the whole of Headrace on this machine, with a
simulated engine, and asks the engine and Headrace in turns, so that whatever else the machine
does hits both alike. Only the difference within one run means something.

At one stream the turns are single requests. At more they are rounds, each of which keeps so many
streams under way; with no delay between tokens a round measures a saturated machine, on which the
path's parts, the engine and the generator share the processors.
"""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec
import uvloop

from loadtests import demo
from loadtests.load.loops import closed
from loadtests.load.plans import Plan
from loadtests.load.requests import Requester
from loadtests.load.samples import Sample, Spread, spread

RESULT: Final = Path(__file__).parent / "results" / "first-token.json"
TOKENS: Final = 30
ROUNDS_PER_STREAM: Final = 8
"""Requests of each stream in a round: enough that most begin while all streams are under way."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """First-token times in ms; `added` is through less direct, percentile by percentile.

    Rates are of requests while so many streams are under way.
    """

    streams: int
    requests: int
    direct: Spread
    through: Spread
    added_p50: float
    added_p99: float
    direct_per_second: float
    through_per_second: float


class FirstToken(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run."""

    tokens: int
    delay_ms: float
    cpus: int
    python: str
    load_average: float
    comparisons: list[Comparison]


async def compare(direct: Plan, through: Plan, streams: int, turns: int) -> Comparison:
    """Ask both in turns. Raises RuntimeError for a wrong answer: then no time means anything."""
    both = Requester(direct), Requester(through, part=1)
    samples: tuple[list[Sample], list[Sample]] = ([], [])
    seconds = [0.0, 0.0]
    count = 1 if streams == 1 else streams * ROUNDS_PER_STREAM
    warm_up = max(3, turns // 10)
    for turn in range(warm_up + turns):
        for n, plan in enumerate((direct, through)):
            bounded = msgspec.structs.replace(plan, requests=count)
            began = perf_counter()
            made = await closed(both[n], bounded, streams, began, count)
            wrong = {sample.outcome for sample in made} - {"ok"}
            if wrong:
                raise RuntimeError(f"answers from {plan.target} are wrong: {wrong}")
            if turn >= warm_up:
                samples[n].extend(made)
                seconds[n] += perf_counter() - began
    for requester in both:
        requester.close()
    ours, theirs = (spread((sample.first_token for sample in kept), 1e3) for kept in samples)
    return Comparison(
        streams=streams,
        requests=turns * count,
        direct=ours,
        through=theirs,
        added_p50=theirs.p50 - ours.p50,
        added_p99=theirs.p99 - ours.p99,
        direct_per_second=turns * count / seconds[0],
        through_per_second=turns * count / seconds[1],
    )


def measure(delay_ms: float, turns: int, rounds: int, streams: Sequence[int]) -> FirstToken:
    """Start everything, measure at each number of streams, end everything."""
    load_average = os.getloadavg()[0]
    comparisons = []
    with demo.running(delay_ms) as info:
        for each in streams:
            plans = info.direct(each, TOKENS), info.through(each, TOKENS)
            comparison = compare(*plans, each, turns if each == 1 else rounds)
            comparisons.append(uvloop.run(comparison))
    return FirstToken(
        tokens=TOKENS,
        delay_ms=delay_ms,
        cpus=os.cpu_count() or 0,
        python=platform.python_version(),
        load_average=load_average,
        comparisons=comparisons,
    )


def table(result: FirstToken) -> str:
    """The result for people."""
    title = f"Time to the first token in ms, {result.tokens} tokens at {result.delay_ms:g} ms, "
    lines = [
        title + f"{result.cpus} processors (load before: {result.load_average:.1f})",
        f"{'':>8} {'':>9} {'direct':^17} {'Headrace':^17} {'added':^17} {'requests/s':^17}",
        f"{'streams':>8} {'requests':>9}"
        + f" {'median':>8} {'99 %':>8}" * 3
        + f" {'direct':>8} {'Headrace':>8}",
    ]
    for row in result.comparisons:
        figures = [row.direct.p50, row.direct.p99, row.through.p50, row.through.p99]
        figures += [row.added_p50, row.added_p99]
        rates = f" {row.direct_per_second:>8.0f} {row.through_per_second:>8.0f}"
        times = "".join(f" {each:>8.2f}" for each in figures)
        lines.append(f"{row.streams:>8} {row.requests:>9}{times}{rates}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(prog="first_token", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--turns", type=int, default=500, help="requests of each kind at one stream")
    add("--rounds", type=int, default=10, help="rounds of each kind at more streams")
    add("--streams", type=int, nargs="+", default=[1, 16])
    add("--delay-ms", type=float, default=0.0, help="the engine's milliseconds per token")
    add("--out", type=Path, default=RESULT, help="where the result goes")
    given = parser.parse_args(argv)
    result = measure(given.delay_ms, given.turns, given.rounds, given.streams)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    print(table(result))
    print(f"\nkept in {given.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
