"""What load to make: the whole of it is one Struct, which travels to each generator process."""

import msgspec


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """So many streams at any time: the next request begins when one has ended."""

    streams: int


class Poisson(msgspec.Struct, frozen=True, tag="poisson"):
    """Requests per second, each at a moment of its own, whatever happened to those before."""

    rate: float


class Bursts(msgspec.Struct, frozen=True, tag="bursts"):
    """So many requests at the same moment, again and again."""

    size: int
    every_seconds: float


class Recorded(msgspec.Struct, frozen=True, tag="recorded"):
    """Requests as the trace in the file at `path` has them, so many times as fast.

    Answers are as long as the trace says, up to the plan's `tokens`.
    """

    path: str
    speed: float = 1.0


Arrivals = Closed | Poisson | Bursts | Recorded


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A load. It ends after `seconds` or, if that is not 0, after `requests`, whichever is first.

    Requests that run at the end are waited for, at most `timeout` seconds each. `verify` is for a
    simulated engine, whose text is known. Prompts and moments depend on `seed`, nothing else does.
    """

    target: str
    arrivals: Arrivals
    seconds: float = 10.0
    requests: int = 0
    tokens: int = 30
    prompt_bytes: int = 32
    stream: bool = True
    model: str = "sim"
    api_key: str = ""
    timeout: float = 60.0
    verify: bool = True
    seed: int = 0
    max_connections: int = 4096
