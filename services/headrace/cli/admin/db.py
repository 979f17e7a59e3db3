"""`headrace db`: bring the store up to date, save it, restore it."""

import sys
from pathlib import Path

import click

from headrace.cli.admin import context
from headrace.cli.setup.credentials import write_private
from headrace.gateway.store import backup as saving
from headrace.gateway.store import migrations
from headrace.gateway.store.database import Database, StoreError


@click.group(short_help="Save, restore and migrate the gateway's store.")
def db() -> None:
    """The store of people, keys, groups, limits and accounts."""


@db.command()
@context.options
def migrate(config: Path | None, as_json: bool) -> None:
    """Make the store, or bring it up to date. Do it after each update of Headrace.

    Edges go on serving meanwhile with what they know.
    """
    database = Database(context.find(config).store.url)
    try:
        before = migrations.migrate(database)
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    finally:
        database.close()
    told = {"store": database.shown, "before": before, "now": migrations.NEWEST}
    if as_json:
        context.show_json(told)
    else:
        was = f"it was of version {before}" if before else "it is new"
        click.echo(f"{told['store']} is of version {told['now']}; {was}")


@db.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@context.options
def backup(file: Path, config: Path | None, as_json: bool) -> None:
    """Write all of the store into FILE, as of one moment, while the service runs.

    It holds names, digests of keys and accounts, no key: keep it as you keep the store. The
    file's secret (keys/api.secret) is not in it; without that, restored keys open nothing.
    """
    with context.opened(context.find(config)) as office:
        lines = list(saving.lines(office.database))
    try:
        write_private(file, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
    if as_json:
        context.show_json({"file": str(file), "rows": len(lines) - 2})
    else:
        click.echo(f"{file}: {len(lines) - 2} rows")


@db.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@context.options
def restore(file: Path, yes: bool, config: Path | None, as_json: bool) -> None:
    """Put a backup in place of all that the store holds: all of it, or nothing.

    The store may be another database than the one that was saved.
    """
    found = context.find(config)
    database = Database(found.store.url)
    if not yes and not click.confirm(f"Replace all that {database.shown} holds?", err=True):
        sys.exit(1)
    try:
        with file.open(encoding="utf-8") as lines:
            rows = saving.restore(database, lines)
    except (StoreError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file}: {error}") from error
    finally:
        database.close()
    if as_json:
        context.show_json({"file": str(file), "rows": rows})
    else:
        click.echo(f"{rows} rows restored; edges follow within seconds")
