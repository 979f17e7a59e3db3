"""What a run of the bench leaves: one JSON file for each part, read back for the report."""

import json
import math
from pathlib import Path
from typing import Any, Final

import msgspec

from loadtests.bench.alone import PartsAlone
from loadtests.bench.ceilings import Ceilings
from loadtests.bench.growth import Growth
from loadtests.bench.hops import Hops
from loadtests.bench.machine import Machine
from loadtests.bench.memory import Memory
from loadtests.bench.open_loop import OpenLoop
from loadtests.bench.rows import SideBySide
from loadtests.bench.slow_reader import SlowReader


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """How a part of a run went: empty `failure` if well."""

    seconds: float
    failure: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run: how large it was, and how its parts went."""

    machine: Machine
    size: str
    begun: str
    parts: dict[str, Done]


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """All that there is; None for what was not measured."""

    run: Run | None = None
    ceilings: Ceilings | None = None
    side_by_side: SideBySide | None = None
    hops: Hops | None = None
    alone: PartsAlone | None = None
    open_loop: OpenLoop | None = None
    memory: Memory | None = None
    slow_reader: SlowReader | None = None
    growth: Growth | None = None


FILES: Final = {
    "run": "bench.json",
    "ceilings": "ceilings.json",
    "side_by_side": "side-by-side.json",
    "hops": "hops.json",
    "alone": "parts.json",
    "open_loop": "open-loop.json",
    "memory": "bounds.json",
    "slow_reader": "slow-reader.json",
    "growth": "growth.json",
}
"""Where each is kept."""


def read(folder: Path) -> Results:
    """The results in a folder. Raises ValidationError for a file of another form."""
    every = {name: folder / file for name, file in FILES.items()}
    found = {name: load(path) for name, path in every.items() if path.exists()}
    return msgspec.convert(found, Results)


def load(path: Path) -> Any:
    """The content of a file; a number that there was none of is null there, and NaN here."""
    return _numbers(json.loads(path.read_text(encoding="utf-8")))


def _numbers(value: Any) -> Any:
    match value:
        case None:
            return math.nan
        case dict():
            return {key: _numbers(each) for key, each in value.items()}
        case list():
            return [_numbers(each) for each in value]
        case _:
            return value
