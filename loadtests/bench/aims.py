"""What was aimed at, and what is reached: ratios within one run."""

import math
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from loadtests.bench.contenders import DIRECT, HEADRACE, LITELLM, SSH
from loadtests.bench.points import Point
from loadtests.bench.results import Results
from loadtests.bench.rows import Level, Row

KIB_WAITING: Final = 40.0


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """One aim. `met` is None where it was not measured."""

    measure: str
    aim: str
    reached: str
    met: bool | None


def aims(results: Results) -> list[Aim]:
    """All of them, in the order of the report."""
    return [*_first_token(results), *_rates(results), *_gaps(results), *_rest(results)]


def at_most(measure: str, value: float | None, limit: float, unit: str = "") -> Aim:
    """An aim that is an upper bound."""
    return _aim(measure, f"≤ {limit:g}{unit}", value, unit, lambda each: each <= limit)


def at_least(measure: str, value: float | None, limit: float, unit: str = "") -> Aim:
    """An aim that is a lower bound."""
    return _aim(measure, f"≥ {limit:g}{unit}", value, unit, lambda each: each >= limit)


def _aim(
    measure: str, aim: str, value: float | None, unit: str, holds: Callable[[float], bool]
) -> Aim:
    if value is None or math.isnan(value):
        return Aim(measure=measure, aim=aim, reached="not measured", met=None)
    return Aim(measure=measure, aim=aim, reached=f"{number(value)}{unit}", met=holds(value))


def number(value: float) -> str:
    """A number with three digits that count."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def level(results: Results, streams: int, delay: bool) -> Level | None:
    """The level of so many streams, of the realistic model or of the one without a delay."""
    if results.side_by_side is None:
        return None
    for each in results.side_by_side.levels:
        if each.streams == streams and bool(each.delay_ms) == delay:
            return each
    return None


def row(found: Level | None, contender: str) -> Row | None:
    """A contender's row."""
    if found is None:
        return None
    return next((each for each in found.rows if each.contender == contender), None)


def ratio(over: float | None, under: float | None) -> float | None:
    """Their quotient, where there is one."""
    return None if over is None or not under else over / under


def _first_token(results: Results) -> Iterator[Aim]:
    alone = level(results, 1, delay=False)
    direct, ours = row(alone, DIRECT), row(alone, HEADRACE)
    rivals = row(alone, LITELLM), row(alone, SSH)
    added = ours.first_token_p50 - direct.first_token_p50 if ours and direct else None
    last = ours.first_token_p99 - direct.first_token_p99 if ours and direct else None
    yield at_most("first token added over direct, 1 stream, median", added, 2.5, " ms")
    yield at_most("the same, 99th percentile", last, 8.0, " ms")
    for rival, limit in zip(rivals, (0.25, 0.1), strict=True):
        name = rival.contender if rival else (LITELLM if limit == 0.25 else SSH)
        theirs = rival.first_token_p50 - direct.first_token_p50 if rival and direct else None
        yield at_most(f"the median over what {name} adds", ratio(added, theirs), limit)


def _rates(results: Results) -> Iterator[Aim]:
    sixteen = level(results, 16, delay=False)
    rates = {
        name: found.requests_per_second if (found := row(sixteen, name)) else None
        for name in (DIRECT, LITELLM, SSH, HEADRACE)
    }
    for name, limit in ((LITELLM, 15.0), (SSH, 25.0), (DIRECT, 1 / 3)):
        each = ratio(rates[HEADRACE], rates[name])
        yield at_least(f"requests/s at 16 streams of 30 tokens over {name}", each, round(limit, 2))


def _gaps(results: Results) -> Iterator[Aim]:
    many = level(results, 1000, delay=True)
    direct, ours = row(many, DIRECT), row(many, HEADRACE)
    middle = ratio(ours.gap_p50, direct.gap_p50) if ours and direct else None
    last = ratio(ours.gap_p99, direct.gap_p99) if ours and direct else None
    yield at_most("token gap at 1,000 streams of 20 ms over direct, median", middle, 1.1)
    yield at_most("the same, 99th percentile", last, 1.5)


def _rest(results: Results) -> Iterator[Aim]:
    parts = {each.part: each for each in results.alone.parts} if results.alone else {}
    frames = [each.per_core for name, each in parts.items() if name.startswith("edge, frames")]
    yield at_least("frames/s through the edge per core", min(frames, default=None), 20_000)
    tunnel = [each.per_second for name, each in parts.items() if name == "one SSH connection"]
    yield at_least("requests/s through one SSH connection", min(tunnel, default=None), 2000)
    held = results.memory.waiting_kib if results.memory else None
    yield at_most("memory per waiting connection on the edge", held, KIB_WAITING, " KiB")
    queue = results.growth.curves.get("queue", []) if results.growth else []
    deep = f"{queue[-1].x:,}" if queue else "100,000"
    for what, value in (("publish", _deeper(queue, "publish_p50")), ("first token", _first(queue))):
        yield at_most(f"{what} with {deep} queued over an empty queue, median", value, 1.2)
    slow = results.slow_reader.ratio if results.slow_reader else None
    yield at_most("token gaps of others beside a slow reader, median, over without", slow, 1.1)


def _deeper(points: list[Point], name: str) -> float | None:
    return ratio(points[-1].more[name], points[0].more[name]) if points else None


def _first(points: list[Point]) -> float | None:
    return ratio(points[-1].first_token.p50, points[0].first_token.p50) if points else None
