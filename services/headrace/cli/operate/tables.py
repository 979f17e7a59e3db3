"""What `headrace top` and `headrace jobs` show, made of a status and the time: no I/O."""

import time
from collections.abc import Iterable
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.catalogue.status import ModelRow, Status, WorkerRow
from headrace.cli.operate import freshness
from headrace.cli.operate.formatting import duration, interval

STYLES: Final = {
    "failed": "bold red",
    "cold": "dim",
    "pending": "yellow",
    "waiting": "yellow",
    "loading": "cyan",
    "ready": "green",
    "draining": "magenta",
    "ending": "magenta",
}

COLUMNS: Final = (
    "model / job", "state", "node", "backlog", "oldest", "running", "jobs", "left", "tok/s", "why",
)  # fmt: skip
FOLDS: Final = frozenset({"why", "model / job", "model / worker"})
NUMBERS: Final = frozenset({"job", "backlog", "oldest", "running", "left", "age", "tok/s"})


def top(status: Status, now: float) -> RenderableType:
    """The whole picture: how old it is, what is wrong, and each model with its workers."""
    table = table_of(COLUMNS)
    for model in status.models:
        table.add_row(*_model(model), style="bold")
        for worker in sorted(model.workers, key=lambda each: each.job):
            table.add_row(*_worker(worker, now))
    empty = [Text("no model: its files are missing or bad", style="dim")]
    return Group(*head(status, now), table, *([] if status.models else empty))


def head(status: Status, now: float) -> list[Text]:
    """The lines above the table."""
    fresh = freshness.of(status, now)
    clock = time.strftime("%H:%M:%S", time.localtime(status.written))
    lines = [
        Text(f"cluster {status.cluster}, as of {clock}, {duration(fresh.age)} ago", style="dim")
    ]
    loud = "bold white on red" if fresh.stale else "red"
    lines += [Text(warning, style=loud) for warning in fresh.warnings]
    lines += [Text(problem, style="red") for problem in status.problems]
    return lines


def jobs(status: Status, now: float) -> Table:
    """One row per job."""
    table = table_of(("job", "model", "state", "node", "age", "left", "running", "tok/s", "why"))
    for model in status.models:
        for worker in sorted(model.workers, key=lambda each: each.job):
            began = worker.started_at or worker.submitted_at
            table.add_row(
                str(worker.job or "?"),
                model.model,
                state_text(worker.phase),
                worker.node,
                duration(now - began) if began else "",
                _left(worker, now),
                _running(worker),
                speed_text(worker.tokens_per_second),
                why(worker, now),
            )
    return table


def why(worker: WorkerRow, now: float) -> str:
    """What there is to say about one job."""
    told = [worker.reason] if worker.reason else []
    if not worker.started_at and worker.expected_start:
        wait = worker.expected_start - now
        told.append(f"expected in {duration(wait)}" if wait > 0 else "expected any moment")
    return ", ".join(told)


def table_of(columns: Iterable[str]) -> Table:
    """An empty table of these columns."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        folds = name in FOLDS
        right = name in NUMBERS
        table.add_column(
            name, justify="right" if right else "left", no_wrap=not folds, overflow="fold"
        )
    return table


def _model(model: ModelRow) -> list[str | Text]:
    speed = sum(worker.tokens_per_second for worker in model.workers)
    there = sum(worker.phase not in {"draining", "ending"} for worker in model.workers)
    return [
        Text(model.name),
        state_text(model.phase),
        "",
        str(model.waiting),
        duration(model.oldest_wait) if model.waiting else "",
        str(model.running),
        f"{there} of {model.desired} ({model.minimum}-{model.maximum})",
        "",
        speed_text(speed),
        _reason(model),
    ]


def _reason(model: ModelRow) -> Text:
    if model.failed:
        return Text(f"FAILED: {model.failed}", style="bold red")
    if model.blocked:
        return Text(f"blocked: {model.blocked}", style="red")
    told = Text(model.reason, style="not bold")
    if model.ready_in is not None and model.phase != "ready":
        told.append(f"; ready in {interval(model.ready_in.low, model.ready_in.high)}")
    return told


def _worker(worker: WorkerRow, now: float) -> list[str | Text]:
    waited = now - worker.submitted_at if worker.submitted_at and not worker.started_at else 0.0
    return [
        f"  {worker.job or 'submitted, no number yet'}",
        state_text(worker.phase),
        worker.node,
        "",
        duration(waited) if waited else "",
        _running(worker),
        "",
        _left(worker, now),
        speed_text(worker.tokens_per_second),
        Text(why(worker, now), style="dim"),
    ]


def state_text(phase: str) -> Text:
    """A phase in its colour."""
    return Text(phase, style=STYLES.get(phase, ""))


def _running(worker: WorkerRow) -> str:
    return f"{worker.running}/{worker.slots}" if worker.slots else ""


def _left(worker: WorkerRow, now: float) -> str:
    return duration(worker.ends_at - now) if worker.ends_at and worker.started_at else ""


def speed_text(tokens: float) -> str:
    """Tokens per second; empty for what rounds to nothing."""
    return f"{tokens:.0f}" if tokens >= 0.5 else ""
