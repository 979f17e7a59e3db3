"""The results for people: tables in Markdown and plots in SVG."""

from pathlib import Path
from typing import Final

import msgspec

from loadtests.day.results import OURS, RIVALS, Against, Day, Result, beaten, cheapest, front
from loadtests.day.run import Point
from loadtests.day.telling import PROMISED

DEFAULT: Final = "patience 1"
AIM: Final = 1.3

WAITS: Final = "| GPU-hours a day | median | 95 % | 99 % "

HEAD: Final = """\
# A day of load: GPU-hours against waiting

Three models on a simulated Slurm cluster in virtual time, with the scaler's own policy, the
averaging rule of the reference (Chat AI, section 5.5), fixed capacity, and bounds for whoever knows
the future. GPU-hours are a day's, one GPU a worker, from the job's start to its end. Waits are from
a request's arrival to its slot. A busy and a bursty model are counted over a Friday and a Saturday,
a rare one over two weeks; a Thursday before that serves to learn. Made by `make bench-day`;
`loadtests/day/arrivals.py` tells how the load is made, `oracle.py` beside it what the bounds are.

- The **oracle** knows every request and every wait of Slurm's in advance, obeys the same load times
  and bound of workers, and pays the least that gives our 95th percentile. It starts a worker ahead
  of a burst of seven seconds.
- The **planner** knows as much, and changes the number of workers only on the half hour. What lies
  between it and the oracle is the price of not foreseeing single bursts.
- **Foreseeing**, for the rare model, knows when the next request comes, so it keeps a worker just
  when that pays, but starts one only for a request that is there. What lies between it and the
  oracle is the price of not starting on prophecy.
"""


def keep(day: Day, folder: Path) -> None:
    """Write `day.json`, `day.md` and a plot for each model."""
    folder.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(day), indent=1)
    (folder / "day.json").write_bytes(encoded + b"\n")
    (folder / "day.md").write_text(markdown(day), encoding="utf-8")
    plots(day, folder)


def markdown(day: Day) -> str:
    """The whole report."""
    lines = [HEAD, short(day), "## Plots", ""]
    for model in dict.fromkeys(result.model for result in day.results):
        lines += [f"![{model} model](day-{model}.svg)", ""]
    for result in day.results:
        lines += _scenario(result)
    return "\n".join(lines).rstrip() + "\n"


def short(day: Day) -> str:
    """What is reached, and what is not."""
    return "\n".join([*_defaults(day), *_rivals(day), *_oracle(day), *_told(day)])


def _defaults(day: Day) -> list[str]:
    lines = [
        "## In short",
        "",
        f"Ours at its default, {DEFAULT}. *Rival* is the cheapest setting of averaging or fixed",
        "capacity whose 95th percentile is no longer. *Oracle* and *planner* are what they pay at",
        "least at our 95th percentile.",
        "",
        "| model | loads in | Slurm's queue "
        + WAITS
        + "| rival | oracle | ours / oracle | planner |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in day.results:
        ours = next(point for point in result.of(OURS) if point.setting == DEFAULT)
        rival = cheapest(result.of(*RIVALS), ours.p95)
        against = next(each for each in result.against if each.setting == DEFAULT)
        lines.append(
            f"| {result.model} | {result.load_seconds:g} s | {result.queue} "
            f"| {ours.gpu_hours:.1f} | {_waits(ours)} "
            f"| {f'{rival.gpu_hours:.1f} ({rival.policy})' if rival else 'none'} "
            f"| {_bounds(against)} |"
        )
    return [*lines, ""]


def _rivals(day: Day) -> list[str]:
    lines = [
        "### Where a rival beats ours on both axes",
        "",
        "A setting of ours counts unless another of ours beats it on the same axes: with every",
        "95th percentile at 0 s, the more eager settings buy only a better 99th.",
        "",
    ]
    for wait, name in (("p50", "median"), ("p95", "95th percentile"), ("p99", "99th percentile")):
        pairs = [(result, *pair) for result in day.results for pair in beaten(result, wait)]
        count = sum(len(front(result.of(OURS), wait)) for result in day.results)
        lines += [f"By the {name}: {len(pairs)} of {count} settings.", ""]
        lines += [
            f"- {result.scenario}: {ours.setting} ({_costs(ours, wait)}) by {rival.policy} "
            f"{rival.setting} ({_costs(rival, wait)})"
            for result, ours, rival in pairs
        ]
        lines += [""] * bool(pairs)
    return lines


def _oracle(day: Day) -> list[str]:
    lines = [
        f"### Within {AIM} times the oracle at the same 95th percentile",
        "",
        "Settings that no other of ours beats, and the range of what they pay over the bounds.",
        "",
        f"| model | loads in | Slurm's queue | within {AIM} | ours / oracle | ours / planner |",
        "|---|---|---|---|---|---|",
    ]
    for result in day.results:
        held = result.held()
        ours = {point.setting: point.gpu_hours for point in result.of(OURS)}
        planned = [ours[each.setting] / each.planner for each in held if each.planner]
        lines.append(
            f"| {result.model} | {result.load_seconds:g} s | {result.queue} "
            f"| {sum(each.ratio <= AIM for each in held)} of {len(held)} "
            f"| {_range([each.ratio for each in held])} | {_range(planned)} |"
        )
    return [*lines, ""]


def _range(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}" if values else ""


def _told(day: Day) -> list[str]:
    lines = [
        "### What waiting clients are told",
        "",
        f"The interval should hold what comes in {PROMISED:.0%} of the cases; told when a request",
        "comes to wait and each minute again, at our default. *Width* is the median of the longer",
        "over the shorter time, 10 s added to both.",
        "",
        "| model | loads in | Slurm's queue | told | known | held | longer than told | width |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in day.results:
        told = result.told
        lines.append(
            f"| {result.model} | {result.load_seconds:g} s | {result.queue} | {told.told} "
            f"| {told.known:.0%} | {told.within:.0%} | {told.too_short:.0%} | {told.width:.1f} |"
        )
    return [*lines, ""]


def _scenario(result: Result) -> list[str]:
    lines = [
        f"## {result.scenario}",
        "",
        f"{result.requests_a_day:,.0f} requests a day. Of the rivals, the settings that no other",
        "of their kind beats by the 95th percentile.",
        "",
        "| policy | setting " + WAITS + "| mean | jobs a day | oracle | ours / oracle | planner |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    known = {each.setting: each for each in result.against}
    for policy in (OURS, *RIVALS, "foreseeing"):
        points = result.of(policy)
        for point in points if policy == OURS else front(points):
            row = f"| {policy} | {point.setting} | {point.gpu_hours:.1f} | {_waits(point)} "
            row += f"| {point.mean:.1f} | {point.submissions:.0f} "
            found = known.get(point.setting) if policy == OURS else None
            row += f"| {_bounds(found)} |" if found else "| | | |"
            lines.append(row)
    return [*lines, ""]


def _bounds(against: Against) -> str:
    planner = "" if against.planner is None else f"{against.planner:.1f}"
    return f"{against.oracle:.1f} | {against.ratio:.2f} | {planner}"


def _waits(point: Point) -> str:
    return f"{_seconds(point.p50)} | {_seconds(point.p95)} | {_seconds(point.p99)}"


def _costs(point: Point, wait: str) -> str:
    return f"{point.gpu_hours:.1f} GPU-hours, {_seconds(getattr(point, wait))}"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def plots(day: Day, folder: Path) -> list[Path]:
    """One picture for each model: a panel for each load time and state of Slurm's queue."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "day"
    mpl.rcParams["svg.fonttype"] = "none"
    made = []
    for model in dict.fromkeys(result.model for result in day.results):
        path = folder / f"day-{model}.svg"
        _plot([result for result in day.results if result.model == model], model, path)
        made.append(path)
    return made


def _plot(results: list[Result], model: str, path: Path) -> None:
    from matplotlib import pyplot as plt

    rows = list(dict.fromkeys(result.load_seconds for result in results))
    columns = list(dict.fromkeys(result.queue for result in results))
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(11, 3.2 * len(rows)), sharex=True, squeeze=False
    )
    marks = {"averaging": ("s", "C1"), "fixed": ("D", "C2"), "foreseeing": (".", "C4")}
    for result in results:
        panel = axes[rows.index(result.load_seconds)][columns.index(result.queue)]
        ours = front(result.of(OURS))
        panel.plot(
            [point.gpu_hours for point in ours], [point.p95 for point in ours], "o-", label="ours"
        )
        for policy, (mark, colour) in marks.items():
            points = result.of(policy)
            panel.plot(
                [point.gpu_hours for point in points],
                [point.p95 for point in points],
                mark,
                color=colour,
                alpha=0.6,
                label=policy if points else None,
            )
        bound = sorted((each.oracle, each.p95) for each in result.against)
        panel.plot(*zip(*bound, strict=True), "k--", label="oracle (bound)")
        planned = sorted((each.planner, each.p95) for each in result.against if each.planner)
        if planned:
            panel.plot(*zip(*planned, strict=True), "k:", label="planner (bound)")
        panel.set_yscale("symlog", linthresh=1)
        panel.set_xscale("log")
        panel.set_ylim(bottom=0)
        panel.set_title(f"loads in {result.load_seconds:g} s, queue: {result.queue}", fontsize=9)
    for panel in axes[-1]:
        panel.set_xlabel("GPU-hours a day")
    for row in axes:
        row[0].set_ylabel("95th percentile of waiting, s")
    axes[0][0].legend(fontsize=8)
    figure.suptitle(f"{model} model")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
