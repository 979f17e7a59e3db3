"""`headrace top` and `headrace jobs`: what the scaler's last round saw and decided.

On the web machine `top` shows what workers tell of themselves.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.live import Live

from headrace.catalogue.status import Status
from headrace.cli.operate import context, freshness, tables, web
from headrace.cli.operate.context import SCALER_FILE, StateFolder

PIPE_WIDTH: Final = 200

DEMO: Final = Path("var/demo/web")
"""Where `make demo` keeps the web machine's side, in a checkout."""


@click.command(short_help="Watch models and their jobs.")
@context.options
@click.option(
    "--web",
    "web_folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="On the web machine: the folder with edge.toml. [default: this one, or the demo's]",
)
@click.option("--once", is_flag=True, help="Show it once and leave; also where there is no tty.")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
def top(
    config_file: Path | None,
    state: Path | None,
    web_folder: Path | None,
    *,
    as_json: bool,
    once: bool,
    interval: float,
) -> None:
    """Show each model and, under it, its workers.

    On a service node, with the scaler's --config or --state, as that cluster's scaler sees them:

    \b
    model   state (cold, pending, loading, ready, failed), requests that wait and how long the
            oldest has waited, requests in work, jobs there of those wanted (the bounds), why
    worker  job id, phase, node, requests in work of its slots, walltime left, tokens per second;
            while it waits: for how long, Slurm's reason, and when Slurm expects to start it

    It reads one file that the scaler writes each round, and asks neither Slurm nor the queue. With
    --once or --json the exit code is 1 if the picture is stale, tells of a problem, or a model has
    failed.

    On the web machine, with --web, as the workers of all clusters tell it themselves: the id that
    the edge's log has for them, cluster, node, job, requests in work of their slots. That takes two
    seconds. Ctrl-C leaves.
    """
    console = _console()
    once = once or not console.is_terminal
    if state is None and config_file is None:
        web_folder = web_folder or web_here()
    if web_folder is not None:
        well = web.show(web_folder, console, as_json=as_json, once=once, interval=interval)
        sys.exit(0 if well else 1)
    where = context.find(state, config_file)
    if as_json or once:
        status = where.status()
        if as_json:
            click.echo(json.dumps(plain(status, time.time()), indent=2))
        else:
            console.print(tables.top(status, time.time()))
        sys.exit(0 if is_well(status, time.time()) else 1)
    _watch(where, console, interval)


@click.command(short_help="List the jobs of all models.")
@context.options
def jobs(config_file: Path | None, state: Path | None, *, as_json: bool) -> None:
    """List every job that the scaler knows as its own, one a line.

    Its age counts from its start, or from its submission while it waits. Exits with 1 if the
    picture is stale.
    """
    status = context.find(state, config_file).status()
    now = time.time()
    fresh = freshness.of(status, now)
    if as_json:
        rows = [
            {"model": model.model, "name": model.name, **msgspec.to_builtins(worker)}
            for model in status.models
            for worker in model.workers
        ]
        click.echo(json.dumps(rows, indent=2))
    else:
        console = _console()
        console.print(tables.jobs(status, now))
    for warning in fresh.warnings if fresh.stale else ():
        click.echo(warning, err=True)
    sys.exit(1 if fresh.stale else 0)


def web_here() -> Path | None:
    """The folder of the web machine's files that is meant where nothing is said."""
    if Path(SCALER_FILE).is_file():
        return None
    return next((each for each in (Path(), DEMO) if (each / web.EDGE_FILE).is_file()), None)


def plain(status: Status, now: float) -> dict[str, Any]:
    """The status as JSON's values, and how far to trust it."""
    fresh = freshness.of(status, now)
    found: dict[str, Any] = msgspec.to_builtins(status)
    return {**found, "age": round(fresh.age, 1), "stale": fresh.stale, "warnings": fresh.warnings}


def is_well(status: Status, now: float) -> bool:
    """Whether there is nothing for an operator to do."""
    failed = any(model.failed for model in status.models)
    return not (freshness.of(status, now).stale or status.problems or failed)


def _console() -> Console:
    console = Console(highlight=False)
    # For grep: a line is a row.
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def _watch(where: StateFolder, console: Console, interval: float) -> None:
    first = tables.top(where.status(), time.time())
    with Live(first, console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                live.update(tables.top(where.status(), time.time()), refresh=True)
                time.sleep(interval)
        except KeyboardInterrupt:
            return
