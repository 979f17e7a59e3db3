"""Which installation a command is about, and what all these commands share."""

import getpass
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from headrace.gateway import config as site
from headrace.gateway import durations
from headrace.gateway.admin.action import Actor, AdminError
from headrace.gateway.admin.service import AdminService
from headrace.gateway.config import GatewayConfig
from headrace.gateway.store import migrations
from headrace.gateway.store.database import Database, StoreError
from headrace.runtime.config import ConfigError

VARIABLE: Final = "HEADRACE_EDGE_CONFIG"

CANDIDATES: Final = ("edge.toml", "web/edge.toml", "site/web/edge.toml", "var/demo/web/edge.toml")
"""Where to look, from the folder in which the command is run; the last is `make demo`'s."""

PIPE_WIDTH: Final = 200

SETTLE_SECONDS: Final = 0.2
settle: bool = True
"""Whether commands end only when edges must have seen what they did. Tests turn it off."""

Command = Callable[..., Any]


def options(command: Command) -> Command:
    """The options that all commands of the gateway have."""
    kind = click.Path(exists=True, dir_okay=False, path_type=Path)
    told = f"edge.toml. [env: {VARIABLE}] [default: the first of {', '.join(CANDIDATES)}]"
    command = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")(command)
    return click.option("--config", type=kind, envvar=VARIABLE, help=told)(command)


def find(config: Path | None) -> GatewayConfig:
    """The installation. Raises ClickException."""
    path = config or next((Path(each) for each in CANDIDATES if Path(each).is_file()), None)
    if path is None:
        raise click.ClickException(
            f"there is no {CANDIDATES[0]} here; say --config FILE, or set {VARIABLE}"
        )
    try:
        return site.load(path.absolute(), os.environ)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def opened(found: GatewayConfig) -> Iterator[AdminService]:
    """The desks of an installation, for whoever runs the command."""
    database = Database(found.store.url)
    try:
        migrations.ready(database)
        office = AdminService(database, found.secret, Actor(_account(), "cli"), static=found.static)
        yield office
        if office.acted:
            # What the next command of a script does shall meet edges that know of this one.
            time.sleep((found.store.poll_seconds + SETTLE_SECONDS) * settle)
    except (StoreError, AdminError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        database.close()


def command(function: Command) -> Command:
    """Options, and what goes wrong told as a sentence."""

    @wraps(function)
    def run(config: Path | None, as_json: bool, **given: Any) -> None:
        found = find(config)
        with opened(found) as office:
            function(office, as_json, **given)

    return options(run)


def span(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    """click's callback for a span of time; ``never`` is None."""
    if text is None or text == "never":
        return None
    try:
        return float(durations.seconds(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def show_json(value: object) -> None:
    """Print `value` as JSON."""
    click.echo(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))


def show_table(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows as a table, each on one line where it goes into a pipe."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=PIPE_WIDTH)
    table = Table(header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(row.get(column, "")) for column in columns))
    console.print(table)


def when(at: float | None) -> str:
    """A moment for people, in UTC; empty where there is none."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(at))


def _account() -> str:
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
