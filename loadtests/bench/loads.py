"""The loads that contenders are put under."""

from collections.abc import Sequence
from typing import Final

import msgspec

from loadtests.bench.models import FAST, STEADY, Model
from loadtests.load.plans import Closed, Plan


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Streams at a time, of `tokens` tokens, for `seconds`; with 0, one request of each stream."""

    model: Model
    streams: int
    tokens: int
    seconds: float = 0.0
    rounds: int = 3
    generators: int = 1
    give_up: float = 60.0
    """Seconds after which a request counts with the tokens that it has got by then."""

    @property
    def plan(self) -> Plan:
        """For whom the contender is to say."""
        return Plan(
            target="",
            arrivals=Closed(self.streams),
            tokens=self.tokens,
            seconds=self.seconds or 3600.0,
            requests=0 if self.seconds else self.streams,
            timeout=self.give_up,
        )


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much to measure."""

    turns: int
    loads: Sequence[Load]
    rivals: bool = True


def loads(rounds: int, seconds: float, realistic: int, give_up: float) -> list[Load]:
    """The ceiling at 16, 64 and 256 streams, and a realistic model at 100 and 1,000."""
    ceilings = [
        Load(model=FAST, streams=n, tokens=30, seconds=seconds, rounds=rounds, generators=g)
        for n, g in ((16, 1), (64, 1), (256, 2))
    ]
    steady = [
        Load(model=STEADY, streams=n, tokens=200, rounds=realistic, generators=g, give_up=give_up)
        for n, g in ((100, 1), (1000, 2))
    ]
    return ceilings + steady


FULL: Final = Size(turns=400, loads=loads(3, 3.0, 2, 30.0))
QUICK: Final = Size(turns=40, loads=loads(1, 1.5, 1, 10.0))
SMOKE: Final = Size(
    turns=5, loads=[Load(model=FAST, streams=4, tokens=30, seconds=0.5, rounds=1)], rivals=False
)
