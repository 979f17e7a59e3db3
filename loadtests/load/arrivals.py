"""When requests begin: pure functions from a plan to moments, in seconds from the start."""

import random
from collections.abc import Iterator
from itertools import count

from loadtests.load.plans import Bursts, Plan, Poisson


def moments(plan: Plan) -> Iterator[float]:
    """The moments of an open-loop plan, in order; the same for the same seed."""
    match plan.arrivals:
        case Poisson(rate=rate):
            endless = _poisson(rate, random.Random(plan.seed))
        case Bursts(size=size, every_seconds=every):
            endless = (burst * every for burst in count() for _ in range(size))
        case _:
            raise ValueError("a closed loop has no moments: it answers to the answers")
    for n, moment in enumerate(endless):
        if moment >= plan.seconds or (plan.requests and n >= plan.requests):
            return
        yield moment


def _poisson(rate: float, source: random.Random) -> Iterator[float]:
    moment = 0.0
    while True:
        moment += source.expovariate(rate)
        yield moment
