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
    warm_up: int = 64
    """Requests to each contender and model, unmeasured: much is loaded on the first use."""


def ceilings(rounds: int, seconds: float, *streams: int) -> list[Load]:
    """As many short answers as each contender can give."""
    return [
        Load(
            model=FAST, streams=n, tokens=30, seconds=seconds, rounds=rounds,
            generators=2 if n > 100 else 1,
        )
        for n in streams
    ]  # fmt: skip


def steady(rounds: int, give_up: float, tokens: int, *streams: int) -> list[Load]:
    """Longer answers from a realistic model."""
    return [
        Load(
            model=STEADY, streams=n, tokens=tokens, rounds=rounds, give_up=give_up,
            generators=2 if n > 100 else 1,
        )
        for n in streams
    ]  # fmt: skip


FULL: Final = Size(
    turns=400, loads=[*ceilings(3, 3.0, 16, 64, 256), *steady(2, 30.0, 200, 100, 1000)]
)
QUICK: Final = Size(turns=30, loads=[*ceilings(1, 1.5, 16, 256), *steady(1, 6.0, 100, 100)])
SMOKE: Final = Size(
    turns=5, loads=[*ceilings(1, 0.4, 4), *steady(1, 6.0, 10, 4)], rivals=False, warm_up=4
)
