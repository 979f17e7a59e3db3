"""`headrace models`: look at the catalogue, as the scaler will read it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from headrace.catalogue import loader, worker
from headrace.catalogue.loader import Catalogue, CatalogueError, Entry
from headrace.catalogue.worker import ClusterOptions
from headrace.external import folder as external
from headrace.external.folder import ExternalFolder
from headrace.external.model import ExternalModel
from headrace.runtime.nats.bus import BusOptions
from headrace.runtime.problems import Problem
from headrace.slurm.record import new_submission

HELP = """\
The catalogue: a folder (models.d/) with one TOML file per model.

\b
A file that is put there makes its model appear in /v1/models and be served; taking it away drains
it. Nothing needs a restart. The least that a file holds:
  name = "Qwen/Qwen3-8B"            # as clients write it
  [engine]
  kind  = "vllm"                    # or llamacpp, or command
  model = "/models/Qwen3-8B"
  [job]
  time  = "08:00:00"                # the walltime
  gres  = "gpu:1"
\b
More, with every word explained: docs/guides/models.md, and infra/models.d/*.toml.example.
Check a file before it is there:
  headrace models check DIR && cp DIR/qwen3-8b.toml /etc/headrace/models.d/
"""

PIPE_WIDTH: Final = 200

Command = Callable[..., Any]


def _folder(command: Command) -> Command:
    kind = click.Path(exists=True, file_okay=False, path_type=Path)
    return click.argument("folder", metavar="DIR", type=kind)(command)


def _json(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")(command)


@click.group(help=HELP, short_help="Check and show the files of the model catalogue.")
def models() -> None:
    pass


@models.command()
@_folder
@_json
def check(folder: Path, as_json: bool) -> None:
    """Read every model file of DIR and say what is wrong, as file, line and reason.

    Exits with 0 if all are good and with 1 if not. Nothing is started or sent anywhere.
    """
    found, sold = _load(folder), external.load(folder, others=True)
    problems = _both(found, sold)
    if as_json:
        rows = [*_rows(found), *map(_sold, sold.models.values())]
        told = [msgspec.to_builtins(problem) for problem in problems]
        click.echo(json.dumps({"models": rows, "problems": told}, indent=2))
    else:
        for entry in found.entries.values():
            click.echo(f"{folder / entry.file}: ok, {entry.model.name} as {entry.model.queue}")
        for file, slug in sold.files.items():
            name = sold.models[slug].name
            click.echo(f"{folder / file}: ok, {name} as {slug}, external: for the web machine")
        for problem in problems:
            click.echo(f"{folder}/{problem}", err=True)
        if not found.entries and not sold.files and not problems:
            click.echo(f"{folder}: no model file (they end in .toml)", err=True)
    sys.exit(1 if problems else 0)


@models.command("list")
@_folder
@_json
def list_(folder: Path, as_json: bool) -> None:
    """List the models of DIR and what each of them asks for."""
    found = _load(folder)
    if as_json:
        click.echo(json.dumps(_rows(found), indent=2))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)  # for grep: a line is a model
    table = Table(header_style="bold", box=None, pad_edge=False)
    for column in ("model", "slug", "engine", "slots", "workers", "walltime", "resources"):
        table.add_column(column)
    for row in _rows(found):
        cells = ("id", "slug", "engine", "slots", "workers", "walltime", "resources")
        table.add_row(*(str(row[cell]) for cell in cells))
    console.print(table)
    _tell(folder, found)


@models.command()
@_folder
@click.argument("model")
@_json
def show(folder: Path, model: str, as_json: bool) -> None:
    """Show all that holds for MODEL (its name or slug), defaults included."""
    entry = _find(folder, model)
    values = msgspec.to_builtins(entry.model) | {"slug": entry.model.queue}
    found = {"file": entry.file, "generation": entry.model.generation, **values}
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for key, value in _flat(found):
        click.echo(f"{key:32} {value}")


@models.command()
@_folder
@click.argument("model")
@click.option("--cluster", default="cluster", show_default=True, help="The cluster's name.")
@click.option(
    "--configs",
    default="/path/to/workers",
    show_default=True,
    help="The folder of the workers' configurations, as compute nodes see it.",
)
@click.option("--worker-toml", is_flag=True, help="The worker's configuration instead.")
@click.option(
    "--bus-url", default="nats://service-node:4222", show_default=True, help="For --worker-toml."
)
@click.option(
    "--nkey-file", default="/path/to/worker.nk", show_default=True, help="For --worker-toml."
)
def script(
    folder: Path,
    model: str,
    *,
    cluster: str,
    configs: str,
    worker_toml: bool,
    bus_url: str,
    nkey_file: str,
) -> None:
    """Print the batch script of a job of MODEL (its name or slug). Nothing is submitted.

    Slurm can say what it thinks of it: headrace models script DIR MODEL | sbatch --test-only
    """
    entry = _find(folder, model)
    try:
        facts = ClusterOptions(name=cluster, bus=BusOptions(bus_url, nkey_file), configs=configs)
        if worker_toml:
            text = worker.worker_options(entry.model, facts)
        else:
            text = worker.batch_script(entry.model, facts, new_submission())
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(text, nl=False)


def _load(folder: Path) -> Catalogue:
    try:
        return loader.load(folder)
    except CatalogueError as error:
        raise click.ClickException(str(error)) from error


def _find(folder: Path, model: str) -> Entry:
    found = _load(folder)
    for entry in found.entries.values():
        if model in (entry.model.name, entry.model.queue):
            return entry
    _tell(folder, found)
    has = ", ".join(found.entries) or "-"
    raise click.ClickException(f"{folder} has no good file for {model!r}; it has: {has}")


def _rows(found: Catalogue) -> list[dict[str, Any]]:
    rows = []
    for slug, entry in found.entries.items():
        job, scale = entry.model.job, entry.model.scale
        nodes = f"{job.nodes} node{'s' * (job.nodes > 1)}"
        wants = {"gres": job.gres, "gpus": job.gpus, "mem": job.mem}
        row = {
            "id": entry.model.name,
            "slug": slug,
            "file": entry.file,
            "engine": entry.model.engine.kind,
            "slots": entry.model.slots,
            "workers": f"{scale.min}-{scale.max}",
            "walltime": f"{job.time_min}-{job.time}" if job.time_min else job.time,
            "resources": " ".join(
                [nodes, *(f"{key}={value}" for key, value in wants.items() if value)]
            ),
            "generation": entry.model.generation,
        }
        rows.append(row)
    return rows


def _both(found: Catalogue, sold: ExternalFolder) -> list[Problem]:
    """What is wrong with files of either kind: each is judged as what it says that it is."""
    theirs = {*sold.files, *(problem.file for problem in sold.problems)}
    ours = [problem for problem in found.problems if problem.file not in theirs]
    return sorted([*ours, *sold.problems], key=lambda problem: (problem.file, problem.line))


def _sold(model: ExternalModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "slug": model.queue,
        "engine": model.engine.kind,
        "slots": model.slots,
        "external": True,
        "currency": model.price.currency,
        "budget": {k: v for k, v in msgspec.structs.asdict(model.budget).items() if v is not None},
    }


def _tell(folder: Path, found: Catalogue) -> None:
    for problem in found.problems:
        click.echo(f"{folder}/{problem}", err=True)


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{prefix}{key}.")
        else:
            lines.append((prefix + key, json.dumps(value, ensure_ascii=False)))
    return lines
