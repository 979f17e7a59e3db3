"""The accounts as pictures: distinct users over time, users per day, requests per day and model."""

import datetime
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from headrace.gateway.store.usage import UsageSum, date

SIZE: Final = (8, 3.6)
MOST_MODELS: Final = 10
"""More are drawn together, as others."""


def draw(
    folder: Path, first: Sequence[int], daily: Sequence[UsageSum], models: Sequence[UsageSum]
) -> list[Path]:
    """Draw all three into `folder`.

    `first` has for every user the day of the first request, counted from 1970; `daily` sums by
    day, `models` by day and model.
    """
    paths = [folder / name for name in ("users.svg", "users-per-day.svg", "requests-per-day.svg")]
    with _axes(paths[0], "Distinct users") as axes:
        days, totals = cumulative(first)
        axes.step(days, totals, where="post")
    with _axes(paths[1], "Users per day") as axes:
        axes.bar([_day(each.by["day"]) for each in daily], [each.users for each in daily])
    with _axes(paths[2], "Requests per day and model") as axes:
        every, stacks = stacked(models)
        bottom = [0] * len(every)
        for model, counts in stacks.items():
            axes.bar(every, counts, bottom=bottom, label=model)
            bottom = [low + count for low, count in zip(bottom, counts, strict=True)]
        if stacks:
            axes.legend(fontsize="small", frameon=False)
    return paths


def cumulative(first: Sequence[int]) -> tuple[list[datetime.date], list[int]]:
    """Days, and how many users had come by each of them."""
    counts = Counter(first)
    total, days, totals = 0, [], []
    for day in sorted(counts):
        total += counts[day]
        days.append(_day(date(day)))
        totals.append(total)
    return days, totals


def stacked(models: Sequence[UsageSum]) -> tuple[list[datetime.date], dict[str, list[int]]]:
    """Days, and for each model its requests on each of them; the busiest model first."""
    totals: Counter[str] = Counter()
    for each in models:
        totals[each.by["model"]] += each.requests
    named = [model for model, _ in totals.most_common(MOST_MODELS)]
    days = sorted({each.by["day"] for each in models})
    counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(days, 0))
    for each in models:
        name = each.by["model"] if each.by["model"] in named else "others"
        counts[name][each.by["day"]] += each.requests
    order = [*named, *(["others"] if "others" in counts and "others" not in named else [])]
    return [_day(day) for day in days], {name: list(counts[name].values()) for name in order}


@contextmanager
def _axes(path: Path, title: str) -> Iterator[Any]:
    # The same data make the same file.
    with mpl.rc_context({"svg.hashsalt": "headrace", "svg.fonttype": "none"}):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        yield axes
        axes.set_ylim(bottom=0)
        figure.autofmt_xdate()
        figure.savefig(path, metadata={"Date": None})


def _day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)
