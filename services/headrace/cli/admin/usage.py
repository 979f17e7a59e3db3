"""`headrace usage`: what was asked for, by whom as far as a pseudonym says, and what it took."""

import time
from pathlib import Path

import click

from headrace.cli.admin import context as place
from headrace.gateway.admin.service import AdminService
from headrace.gateway.store import usage as accounts
from headrace.gateway.store.usage import DIMENSIONS, UsageSum


@click.group(invoke_without_command=True, short_help="What was asked for, and what it took.")
@click.option(
    "--by", multiple=True, type=click.Choice(list(DIMENSIONS)),
    help="What to tell apart, repeated. [default: day and model]",
)  # fmt: skip
@click.option("--since", callback=place.span, metavar="SPAN", help="Not older than, such as 30d.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV instead of text.")
@place.options
@click.pass_context
def usage(
    context: click.Context,
    *,
    by: tuple[str, ...],
    since: float | None,
    as_csv: bool,
    config: Path | None,
    as_json: bool,
) -> None:
    """Sum up the accounts, in whole days of UTC. `--by user` tells pseudonyms apart, not names.

    Rows are there a second or two after their requests have ended.
    """
    if context.invoked_subcommand is not None:
        return
    names = by or ("day", "model")
    with place.opened(place.find(config)) as office:
        sums = _sums(office, names, since)
    rows = accounts.table_of(sums)
    if as_json:
        place.show_json(rows)
    elif as_csv:
        click.echo(accounts.csv_of(names, sums), nl=False)
    else:
        place.show_table((*names, *accounts.COLUMNS), rows)


@usage.command()
@click.option("--older", required=True, callback=place.span, metavar="SPAN", help="Such as 400d.")
@place.command
def prune(office: AdminService, as_json: bool, *, older: float | None) -> None:
    """Remove the rows of days that are older. Edges do so by themselves (accounts.keep_days)."""
    with office.people.act("usage.prune", f"older than {older:.0f} s", {}) as connection:
        gone = accounts.prune(connection, time.time() - (older or 0.0))
    if as_json:
        place.show_json({"removed": gone})
    else:
        click.echo(f"{gone} rows removed")


@usage.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@place.command
def plot(office: AdminService, as_json: bool, *, folder: Path) -> None:
    """Draw users over time, users per day, and requests per day and model, as SVG into FOLDER.

    Needs matplotlib.
    """
    try:
        from headrace.cli.admin import plots
    except ImportError as error:
        raise click.ClickException(
            "there is no matplotlib: pip install 'headrace[plots]'"
        ) from error
    with office.database.read() as connection:
        first = accounts.first_days(connection)
        daily = accounts.report(connection, ("day",))
        models = accounts.report(connection, ("day", "model"))
    folder.mkdir(parents=True, exist_ok=True)
    made = [str(path) for path in plots.draw(folder, first, daily, models)]
    if as_json:
        place.show_json(made)
    else:
        click.echo("\n".join(made))


def _sums(office: AdminService, by: tuple[str, ...], since: float | None) -> list[UsageSum]:
    with office.database.read() as connection:
        return accounts.report(connection, by, since=None if since is None else time.time() - since)
