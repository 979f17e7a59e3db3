"""Arrivals that do not wait for answers: Poisson, bursts, and recorded ones, direct and through.

A closed loop slows down with the service; people do not. The same arrivals go to the engine and
through Headrace, in turns.
"""

from pathlib import Path
from typing import Final

import msgspec

from loadtests.bench.machine import Machine, machine
from loadtests.bench.models import STEADY
from loadtests.bench.stage import Stage
from loadtests.load.fleet import measure
from loadtests.load.plans import Arrivals, Bursts, Plan, Poisson, Recorded
from loadtests.load.samples import Summary

TOKENS: Final = 30
RECORDED_TOKENS: Final = 200
SPEED: Final = 10.0
"""The recorded hours are those of one service: 5 requests/s in chats, 2.5 in code."""

TRACES: Final = ("azure-llm-2023-conv.csv", "azure-llm-2023-code.csv")
GENERATORS: Final = 2


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """The same arrivals on one way."""

    arrivals: str
    direct: Summary
    through: Summary


class OpenLoop(msgspec.Struct, frozen=True, kw_only=True):
    """The result; `missing` are traces that are not there."""

    machine: Machine
    seconds: float
    delay_ms: float
    ways: list[Way]
    missing: list[str]


def arrivals(traces: Path) -> tuple[dict[str, tuple[Arrivals, int]], list[str]]:
    """The arrivals by name, with the tokens of an answer, and the traces that are not there."""
    found: dict[str, tuple[Arrivals, int]] = {
        "Poisson, 50/s": (Poisson(50.0), TOKENS),
        "64 at once, every 2 s": (Bursts(64, 2.0), TOKENS),
    }
    missing = [name for name in TRACES if not (traces / name).exists()]
    for name in TRACES:
        if name not in missing:
            recorded = Recorded(str((traces / name).resolve()), SPEED)
            found[f"{name}, {SPEED:g} times as fast"] = (recorded, RECORDED_TOKENS)
    return found, missing


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """For how long each, and how many of them."""

    seconds: float
    most: int = 100


async def run(stage: Stage, size: Size, traces: Path) -> OpenLoop:
    """Measure each on this stage. Raises NotServing."""
    on = machine()
    await stage.serve(STEADY)
    every, missing = arrivals(traces)
    seconds = size.seconds
    for name in missing:
        print(f"    !!! THERE IS NO TRACE {name}: recorded arrivals are not measured", flush=True)
    ways = []
    for name, (each, tokens) in list(every.items())[: size.most]:
        load = Plan(target="", arrivals=each, seconds=seconds, tokens=tokens, model=STEADY.name)
        direct = msgspec.structs.replace(load, target=stage.engine(STEADY))
        through = msgspec.structs.replace(load, target=stage.url, api_key=stage.key)
        way = Way(
            arrivals=name,
            direct=await measure(direct, GENERATORS),
            through=await measure(through, GENERATORS),
        )
        ways.append(way)
        added = way.through.first_token_ms.p50 - way.direct.first_token_ms.p50
        print(f"    {name}: first token {added:+.2f} ms, {way.through.outcomes}", flush=True)
    return OpenLoop(
        machine=on, seconds=seconds, delay_ms=STEADY.delay_ms, ways=ways, missing=missing
    )
