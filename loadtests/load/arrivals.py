"""When requests begin: pure functions from a plan to moments, in seconds from the start."""

import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from loadtests.load import traces
from loadtests.load.plans import Bursts, Plan, Poisson, Recorded


def moments(plan: Plan) -> Iterator[float]:
    """The moments of an open-loop plan, in order; the same for the same seed."""
    return (moment for moment, _ in arrivals(plan))


def arrivals(plan: Plan) -> Iterator[tuple[float, int]]:
    """The moments of an open-loop plan, each with its answer's number of tokens.

    Raises OSError, ValueError for a trace that can't be read, and ValueError for a closed loop.
    """
    endless: Iterator[tuple[float, int]]
    match plan.arrivals:
        case Poisson(rate=rate):
            source = random.Random(plan.seed)
            endless = ((moment, plan.tokens) for moment in _poisson(rate, source))
        case Bursts(size=size, every_seconds=every):
            endless = ((burst * every, plan.tokens) for burst in count() for _ in range(size))
        case Recorded(path=path, speed=speed):
            endless = (
                (moment / speed, max(1, min(tokens, plan.tokens)))
                for moment, tokens in traces.read(Path(path))
            )
        case _:
            raise ValueError("a closed loop has no moments: it answers to the answers")
    for n, (moment, tokens) in enumerate(endless):
        if moment >= plan.seconds or (plan.requests and n >= plan.requests):
            return
        yield moment, tokens


def _poisson(rate: float, source: random.Random) -> Iterator[float]:
    moment = 0.0
    while True:
        moment += source.expovariate(rate)
        yield moment
