"""What `headrace top` shows on the web machine: every cluster's workers, made of what was heard."""

from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from headrace.cli.operate.formatting import duration
from headrace.cli.operate.live_view import Beat, LiveView
from headrace.cli.operate.tables import speed_text, state_text, table_of
from headrace.protocol.plan import ModelPhase
from headrace.protocol.state import WorkerPhase

COLUMNS: Final = (
    "model / worker", "state", "cluster", "node", "job", "running", "tok/s", "left", "why",
)  # fmt: skip


def top(heard: LiveView, now: float, clock: float) -> RenderableType:
    """Each model with its workers; `clock` is the time in Unix seconds, for ends of walltimes."""
    table = table_of(COLUMNS)
    for model in plain(heard, now):
        rate = model["tokens_per_second"]
        reason = _text(model["reason"], "bold red" if model["state"] == "failed" else "")
        table.add_row(
            model["model"], state_text(model["state"]), "", "", "",
            f"{model['running']}/{model['slots']}", speed_text(rate), "", reason,
            style="bold",
        )  # fmt: skip
        for each in model["workers"]:
            left = each["ends_at"] - clock if each["ends_at"] else 0.0
            table.add_row(
                f"  {each['worker']}", state_text(each["state"]), each["cluster"],
                _text(each["node"]), str(each["job"] or ""), f"{each['running']}/{each['slots']}",
                speed_text(each["tokens_per_second"]), duration(left) if left > 0 else "",
                _text(each["reason"], "dim"),
            )  # fmt: skip
    if not table.row_count:
        return Group(table, Text("no worker and no scaler has told of itself", style="dim"))
    return table


def plain(heard: LiveView, now: float) -> list[dict[str, Any]]:
    """The same as JSON's values."""
    return [_model(slug, heard, now) for slug in heard.models(now)]


def _model(slug: str, heard: LiveView, now: float) -> dict[str, Any]:
    workers, plans = heard.workers(slug, now), heard.plans(slug, now)
    ready = any(each.state.phase is WorkerPhase.READY for each in workers)
    loading = any(each.state.phase is WorkerPhase.LOADING for each in workers)
    phases = [plan.phase for plan in plans]
    phases += [ModelPhase.READY] if ready else [ModelPhase.LOADING] if loading else []
    order = list(ModelPhase)  # worst to best
    return {
        "model": slug,
        "name": plans[0].facts.name if plans else slug,
        "state": str(max(phases, key=order.index, default=ModelPhase.COLD)),
        "running": sum(each.state.running for each in workers),
        "slots": sum(each.state.slots for each in workers),
        "tokens_per_second": sum(each.tokens_per_second for each in workers),
        "reason": "; ".join(plan.reason for plan in plans if plan.reason),
        "workers": [_worker(each) for each in workers],
    }


def _worker(beat: Beat) -> dict[str, Any]:
    state = beat.state
    return {
        "worker": state.worker,
        "state": str(state.phase),
        "cluster": state.cluster,
        "node": state.node,
        "job": state.job,
        "running": state.running,
        "slots": state.slots,
        "tokens_per_second": beat.tokens_per_second,
        "ends_at": state.ends_at,
        "reason": state.reason,
    }


def _text(told: str, style: str = "") -> Text:
    """A cluster's own words: no markup, and nothing that a terminal would obey."""
    return Text("".join(each if each.isprintable() else " " for each in told), style=style)
