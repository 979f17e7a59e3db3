"""`headrace doctor` as a command."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.text import Text

from headrace.cli.doctor import cluster, web
from headrace.cli.doctor.finding import Finding, Level
from headrace.cli.operate.context import SCALER_FILE

MARKS: Final = {Level.OK: "ok  ", Level.WARNING: "note", Level.BAD: "BAD "}
STYLES: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.BAD: "bold red"}


@click.command(short_help="Check every hop and say what to do.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="HEADRACE_SCALER_CONFIG",
    help=f"On a service node: the scaler's {SCALER_FILE}. [default: the one here]",
)
@click.option(
    "--web",
    "web_folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="On the web machine: the folder with edge.toml and bridge.toml. [default: this one]",
)
@click.option("--url", help="From anywhere: the address of the API.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def doctor(
    config_file: Path | None, web_folder: Path | None, url: str | None, *, as_json: bool
) -> None:
    """Check every hop that can be seen from this machine, and say what to do where one is broken.

    \b
    service node  configuration, keys, catalogue, state folder; the leaf with the scaler's and the
                  workers' key; the hub's queue through the link; Slurm's commands, controller and
                  partitions; a trial of each model's job (sbatch --test-only, nothing is
                  submitted); the scaler itself, its lease and its problems
    web machine   configuration, keys, host keys; the API; the SSH connection to each cluster

    Run it as the account of the daemons. Changes nothing. Exits with 1 if anything is broken; what
    is only a note may be meant so.
    """
    here = Path(SCALER_FILE)
    if config_file is None and web_folder is None and url is None:
        config_file = here if here.is_file() else None
        web_folder = Path() if Path("edge.toml").is_file() else None
    found: list[Finding] = []
    if config_file is not None:
        found += asyncio.run(cluster.look(config_file))
    if web_folder is not None:
        found += web.look(web_folder)
    if url is not None:
        found.append(web.look_at_edge(url.rstrip("/").removesuffix("/v1")))
    if not found:
        raise click.UsageError(
            f"look at what? There is neither {SCALER_FILE} nor edge.toml here; say --config FILE "
            "on a service node, --web DIR on the web machine, or --url URL."
        )
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(each) for each in found], indent=2))
    else:
        show(found)
    sys.exit(1 if any(each.level is Level.BAD for each in found) else 0)


def show(found: Sequence[Finding], console: Console | None = None) -> None:
    """A line for each, and beneath what is not well what to do."""
    console = console or Console(highlight=False)
    for each in found:
        line = Text(f"{MARKS[each.level]}  ", style=STYLES[each.level])
        line.append(f"{each.hop}: {each.told}", style="not bold default")
        console.print(line, soft_wrap=True)
        if each.todo:
            console.print(Text(f"      → {each.todo}"), soft_wrap=True)
    bad = sum(each.level is Level.BAD for each in found)
    console.print(
        Text(f"{bad} of {len(found)} are broken" if bad else "nothing is broken"),
        style="bold red" if bad else "bold green",
    )
