"""What grows with what: nothing may grow faster than it must."""

import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from loadtests.bench import curves, depth
from loadtests.bench.machine import Machine, machine
from loadtests.bench.points import Effort, Point
from loadtests.bench.stage import Stage


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How far each curve goes, and by how many requests a point is measured."""

    effort: Effort = Effort()
    queue: Sequence[int] = (10, 1000, 100_000)
    models: Sequence[int] = (1, 100, 1000)
    workers: Sequence[int] = (1, 10, 200)
    edges: Sequence[int] = (1, 2, 4)
    waiting: Sequence[int] = (10, 1000, 5000)


QUICK: Final = Size(
    effort=Effort(40, 2.0),
    queue=(10, 10_000),
    models=(1, 100),
    workers=(1, 50),
    edges=(1, 2),
    waiting=(10, 1000),
)
SMOKE: Final = Size(
    effort=Effort(5, 0.2), queue=(20,), models=(), workers=(2,), edges=(), waiting=()
)


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """The curves by name, and why some are not there."""

    machine: Machine
    curves: dict[str, list[Point]]
    missing: dict[str, str]


Curve = Callable[[Stage, Sequence[int], Effort], Awaitable[list[Point]]]

CURVES: Final[dict[str, Curve]] = {
    "queue": depth.run,
    "models": curves.models,
    "workers": curves.workers,
    "edges": curves.edges,
    "waiting": curves.waiting,
}


async def run(stage: Stage, size: Size, keep: Callable[[Growth], None]) -> Growth:
    """Measure every curve on this stage; one that fails does not stop the others."""
    result = Growth(machine=machine(), curves={}, missing={})
    for name, curve in CURVES.items():
        counts: Sequence[int] = getattr(size, name)
        if not counts:
            continue
        try:
            result.curves[name] = await curve(stage, counts, size.effort)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told
            traceback.print_exc()
            result.missing[name] = str(error).splitlines()[0] if str(error) else repr(error)
        else:
            for each in result.curves[name]:
                told = f"first token {each.first_token.p50:.2f} ms, edge {_edge(each):.0f} MiB"
                print(f"    {name} {each.x}: {told}", flush=True)
        keep(result)
    return result


def _edge(point: Point) -> float:
    return point.rss_mib.get("edge", 0.0)
