"""`headrace scale` and `headrace drain`: an operator's word over the models' files."""

import json
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from headrace.catalogue.overrides import Override
from headrace.catalogue.status import ModelRow
from headrace.cli.operate import context, drain_job
from headrace.cli.operate.context import StateFolder
from headrace.cli.operate.formatting import duration

Count: Final = click.IntRange(0, 1000)


@click.command(short_help="Bound a model's jobs by hand, for a while.")
@click.argument("model")
@click.option("--min", "least", type=Count, help="At least so many jobs, whatever the load.")
@click.option("--max", "most", type=Count, help="At most so many; 0: none at all.")
@click.option("--pin", type=Count, help="Exactly so many.")
@click.option("--reset", is_flag=True, help="What the model's file says counts again.")
@context.options
def scale(
    model: str,
    least: int | None,
    most: int | None,
    pin: int | None,
    *,
    reset: bool,
    config_file: Path | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Put bounds on the jobs of MODEL (its name or slug) that count in place of its file's.

    They hold until --reset, also over a restart of the scaler, which reads them within one of its
    rounds. Without an option it says which bounds count now. For good, change the model's file.

    \b
    headrace scale qwen3-8b --min 1       an exam begins: nobody shall wait for a start
    headrace scale qwen3-8b --pin 2       exactly two, to compare something
    headrace scale qwen3-8b --reset
    """
    if pin is not None and (least is not None or most is not None):
        raise click.UsageError("--pin is --min and --max in one: say either.")
    if reset and not (pin is None and least is None and most is None):
        raise click.UsageError("--reset takes the bounds away: say it alone.")
    if least is not None and most is not None and least > most:
        raise click.UsageError(f"--min {least} is more than --max {most}.")
    where = context.find(state, config_file)
    row = find(where, model)
    if pin is not None:
        least = most = pin
    asked = reset or least is not None or most is not None
    if asked:
        said = where.override(
            row.model, lambda before: None if reset else merged(before, least, most)
        )
    else:
        said = where.overrides().models.get(row.model)
    _tell(where, row, said, as_json=as_json, asked=asked)


@click.command(short_help="Let a model's jobs, or one job, finish and end.")
@click.argument("what", metavar="MODEL|JOBID")
@context.options
def drain(what: str, config_file: Path | None, state: Path | None, *, as_json: bool) -> None:
    """Let running requests finish, take no new ones, and end.

    A MODEL (name or slug) gets no jobs any more until you say so: its requests wait, and fail at
    their deadlines. This is `headrace scale MODEL --max 0`; to take a model away for good, remove
    its file. A JOBID is told to drain (SIGTERM to its worker); if the load asks for another job in
    its place, the scaler submits one. It must be a job of this scaler's: the record in its comment
    says so. That uses Slurm's commands, as this account.
    """
    where = context.find(state, config_file)
    if what.isascii() and what.isdigit():
        told = drain_job.drain(where, int(what))
        _say({"job": int(what), "drained": True, "told": told}, told, as_json=as_json)
        return
    row = find(where, what)
    where.override(row.model, lambda _: Override(max=0))
    running = len(row.workers)
    told = (
        f"{row.model}: no job is started any more, and its jobs ({running}) finish what they have. "
        f"New requests wait until you undo this: headrace scale {row.model} --reset"
    )
    _say({"model": row.model, "max": 0, "jobs": running, "told": told}, told, as_json=as_json)


def find(where: StateFolder, model: str) -> ModelRow:
    """The row of a model by name or slug. Raises ClickException."""
    rows = where.status().models
    for row in rows:
        if model in (row.model, row.name):
            return row
    known = ", ".join(row.model for row in rows) or "none"
    raise click.ClickException(f"the scaler has no model {model!r}; it has: {known}")


def merged(before: Override | None, least: int | None, most: int | None) -> Override:
    """What was said now over what was said before. Raises UsageError for an empty range."""
    old = before or Override()
    new = Override(min=old.min if least is None else least, max=old.max if most is None else most)
    if new.min is not None and new.max is not None and new.min > new.max:
        raise click.UsageError(
            f"that makes at least {new.min} and at most {new.max}, with what was said before: "
            "say both --min and --max, or --pin, or --reset first."
        )
    return new


def _tell(
    where: StateFolder, row: ModelRow, said: Override | None, *, as_json: bool, asked: bool
) -> None:
    interval = duration(where.status().interval)
    if said is None:
        told = f"{row.model}: what its file says counts"
        told += f" again, within {interval}" if asked else f": {row.minimum} to {row.maximum} jobs"
    else:
        words = [f"{name} {value}" for name, value in _bounds(said).items() if value is not None]
        told = f"{row.model}: {', '.join(words)}, by hand"
        told += f"; the scaler reads it within {interval}" if asked else ""
        told += f". Undo: headrace scale {row.model} --reset"
    found = {"model": row.model, "override": _bounds(said) if said else None, "told": told}
    _say(found, told, as_json=as_json)


def _bounds(said: Override) -> dict[str, int | None]:
    return msgspec.structs.asdict(said)


def _say(found: dict[str, Any], told: str, *, as_json: bool) -> None:
    click.echo(json.dumps(found, indent=2) if as_json else told)
