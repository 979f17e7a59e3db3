"""Tables in Markdown, one for each part of the results."""

from collections.abc import Iterable, Sequence

from loadtests.bench.aims import Aim, number
from loadtests.bench.alone import PartsAlone
from loadtests.bench.ceilings import Ceilings
from loadtests.bench.contenders import DIRECT, HEADRACE
from loadtests.bench.hops import Hops
from loadtests.bench.memory import Memory
from loadtests.bench.open_loop import OpenLoop
from loadtests.bench.points import Point
from loadtests.bench.rows import Level, Row
from loadtests.bench.slow_reader import SlowReader

WELL = {True: "yes", False: "**no**", None: ""}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table and an empty line."""
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def aims(found: Sequence[Aim]) -> list[str]:
    """What was aimed at beside what is reached."""
    rows = [[each.measure, each.aim, each.reached, WELL[each.met]] for each in found]
    return table(["measure", "aim", "reached", "met"], rows)


def level(found: Level) -> list[str]:
    """All contenders under one load, and Headrace's ratio to each."""
    ours = next((row for row in found.rows if row.contender == HEADRACE), None)
    direct = next((row for row in found.rows if row.contender == DIRECT), None)
    head = ["", "requests/s", "tokens/s", "first token", "99 %", "added", "gap", "99 %"]
    head += ["CPU ms a request", "Headrace / this", "outcomes"]
    rows = []
    for row in found.rows:
        added = row.first_token_p50 - direct.first_token_p50 if direct else float("nan")
        figures = [row.requests_per_second, row.tokens_per_second, row.first_token_p50]
        figures += [row.first_token_p99, added, row.gap_p50, row.gap_p99, _cpu(row)]
        figures.append(
            ours.requests_per_second / row.requests_per_second
            if ours and row.requests_per_second
            else float("nan")
        )
        rows.append([row.contender, *map(number, figures), outcomes(row.outcomes)])
    return table(head, rows)


def _cpu(row: Row) -> float:
    own = [each for part, each in row.cpu_ms.items() if part not in {"generator", "engine"}]
    return sum(own) if own else float("nan")


def costs(found: Level) -> list[str]:
    """Processor time and memory of every process."""
    rows = [
        [row.contender, part, number(cpu), number(row.rss_mib.get(part, float("nan")))]
        for row in found.rows
        for part, cpu in row.cpu_ms.items()
        if cpu >= 0.005
    ]
    return table(["", "process", "CPU ms a request", "most MiB"], rows) if rows else []


def outcomes(counted: dict[str, int]) -> str:
    """How requests ended."""
    return ", ".join(f"{count} {outcome}" for outcome, count in counted.items())


def ceilings(found: Ceilings) -> list[str]:
    """What the tools themselves can do."""
    rows = [
        [
            f"engine, {found.tokens} tokens", number(found.engine_per_second),
            number(found.engine_per_core),
        ],
        [
            f"generator, {found.generators} processes", number(found.generator_per_second),
            number(found.generator_per_core),
        ],
    ]  # fmt: skip
    late = (
        f"Poisson arrivals at {found.open_rate:g}/s: {number(found.open_reached)}/s reached, begun "
        f"{found.late_p50_ms:.2f} ms late in the median and {found.late_p99_ms:.2f} ms at 99 %."
    )
    return [*table(["", "requests/s", "requests/s per core"], rows), late, ""]


def hops(found: Hops) -> list[str]:
    """Where the time to the first token goes."""
    rows = [
        [
            hop.path, f"{hop.first_token.p50:.2f}", f"{hop.first_token.p99:.2f}",
            f"{hop.added:.2f}", f"{hop.share:.0%}",
        ]
        for hop in found.hops
    ]  # fmt: skip
    return table(["path up to", "first token", "99 %", "added by the hop", "share"], rows)


def alone(found: PartsAlone) -> list[str]:
    """What each part can take alone."""
    rows = [
        [
            each.part, each.what, f"{number(each.per_second)} {each.unit}",
            number(each.per_core),
            ", ".join(f"{name} {number(each.cpu_us.get(name, 0.0))}" for name in each.own),
        ]
        for each in found.parts
    ]  # fmt: skip
    return table(["part", "of what", "each second", "per core", "CPU µs of each"], rows)


def open_loop(found: OpenLoop) -> list[str]:
    """Arrivals that do not wait for answers."""
    rows = []
    for way in found.ways:
        for name, each in (("direct", way.direct), (HEADRACE, way.through)):
            times = [each.first_token_ms.p50, each.first_token_ms.p99, each.gap_ms.p50]
            times += [each.gap_ms.p99, each.late_ms.p99]
            rows.append(
                [way.arrivals, name, str(each.requests), *map(number, times),
                 outcomes(each.outcomes)]
            )  # fmt: skip
    head = ["arrivals", "", "requests", "first token", "99 %", "gap", "99 %"]
    return table([*head, "begun late, 99 %", "outcomes"], rows)


def memory(found: Memory) -> list[str]:
    """What a request holds."""
    rows = [
        [
            f"{found.waiting:,} wait", number(found.waiting_kib), "-",
            number(found.waiting_hub_kib),
        ],
        *(
            [
                f"{found.streams:,} stream, {each.tokens} tokens so far",
                number(each.edge_kib), number(each.worker_kib), "-",
            ]
            for each in found.streaming
        ),
    ]  # fmt: skip
    return table(["KiB a request", "edge", "worker", "hub"], rows)


def slow_reader(found: SlowReader) -> list[str]:
    """The others beside one that hardly reads."""
    rows = [
        [
            kind, number(each.gap_p50_ms), number(each.gap_p99_ms),
            number(each.first_token_p50_ms), outcomes(each.outcomes),
        ]
        for kind, each in found.kinds.items()
    ]  # fmt: skip
    return table(["slow reader", "gap", "99 %", "first token", "outcomes"], rows)


def curve(name: str, points: Sequence[Point]) -> list[str]:
    """One curve of growth."""
    more = list(dict.fromkeys(key for point in points for key in point.more))
    head = [name, "first token", "99 %", "edge MiB", "hub MiB", "idle CPU ms/s", *more]
    rows = [
        [
            f"{point.x:,}", f"{point.first_token.p50:.2f}", f"{point.first_token.p99:.2f}",
            number(point.rss_mib.get("edge", float("nan"))),
            number(point.rss_mib.get("hub", float("nan"))),
            number(sum(point.idle_cpu_ms.values())),
            *(number(point.more.get(key, float("nan"))) for key in more),
        ]
        for point in points
    ]  # fmt: skip
    return table([each.replace("_", " ") for each in head], rows)
