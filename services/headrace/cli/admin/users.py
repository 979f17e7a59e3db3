"""`headrace users` and `headrace groups`."""

import click

from headrace.cli.admin import context
from headrace.cli.admin.keys import ENDPOINTS
from headrace.gateway.admin import views
from headrace.gateway.admin.service import AdminService
from headrace.gateway.store import queries


@click.group(short_help="People: what groups they are in; shut out, erase.")
def users() -> None:
    """People, and services that have keys."""


@users.command("set")
@click.argument("name")
@click.option("--organisation", help="For accounts.")
@click.option("--join", multiple=True, metavar="GROUP")
@click.option("--leave", multiple=True, metavar="GROUP")
@click.option("--disable/--enable", "disabled", default=None, help="Shut out; all keys rest.")
@context.command
def set_user(
    office: AdminService,
    as_json: bool,
    *,
    name: str,
    organisation: str | None,
    join: tuple[str, ...],
    leave: tuple[str, ...],
    disabled: bool | None,
) -> None:
    """Make or change a user."""
    user = office.people.put(
        name, organisation=organisation, disabled=disabled, join=join, leave=leave
    )
    if as_json:
        context.show_json(user)
    else:
        click.echo(f"{user.name}: in {' '.join(user.groups) or 'no group'}")


@users.command("list")
@context.command
def list_users(office: AdminService, as_json: bool) -> None:
    """List users and their groups."""
    with office.database.read() as connection:
        every = queries.users(connection)
    if as_json:
        context.show_json(every)
        return
    rows = [
        {
            "name": user.name, "organisation": user.organisation,
            "groups": " ".join(user.groups), "state": "disabled" if user.disabled else "",
        }
        for user in every
    ]  # fmt: skip
    context.show_table(("name", "organisation", "groups", "state"), rows)


@users.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@context.command
def erase(office: AdminService, as_json: bool, *, name: str, yes: bool) -> None:
    """Remove a person: keys, groups, limits, every row of usage, and the name in the audit log.

    Backups that were made before still have it.
    """
    if not yes:
        click.confirm(f"Remove {name} and all accounts of {name}?", abort=True, err=True)
    gone = office.people.erase(name)
    if as_json:
        context.show_json(gone)
    else:
        click.echo(f"erased: {', '.join(f'{count} {what}' for what, count in gone.items())}")


@click.group(short_help="Groups: which models their members may use.")
def groups() -> None:
    """Groups. Every user is in `everyone`, which may use every model that is not external."""


@groups.command("set")
@click.argument("name")
@click.option(
    "--model", "models", multiple=True, metavar="NAME",
    help="What its members may use, repeated; '*' is all of the site's own, 'none' is nothing.",
)  # fmt: skip
@click.option("--endpoint", "endpoints", multiple=True, type=click.Choice([*ENDPOINTS, "all"]))
@context.command
def set_group(
    office: AdminService,
    as_json: bool,
    *,
    name: str,
    models: tuple[str, ...],
    endpoints: tuple[str, ...],
) -> None:
    """Make or change a group; what is not said stays as it is."""
    group = office.groups.put(
        name,
        models=None if not models else [model for model in models if model != "none"],
        endpoints=None if not endpoints else [each for each in endpoints if each != "all"],
    )
    if as_json:
        context.show_json(group)
    else:
        click.echo(f"{group.name}: {' '.join(group.models) or 'no model'}")


@groups.command("list")
@context.command
def list_groups(office: AdminService, as_json: bool) -> None:
    """List groups and what their members may use."""
    with office.database.read() as connection:
        every, people = queries.groups(connection), queries.users(connection)
    if as_json:
        context.show_json(every)
        return
    rows = [
        {
            "name": group.name, "models": " ".join(group.models),
            "endpoints": " ".join(group.endpoints) or "all",
            "members": sum(group.name in user.groups for user in people),
        }
        for group in every
    ]  # fmt: skip
    context.show_table(("name", "models", "endpoints", "members"), rows)


@groups.command()
@click.argument("name")
@context.command
def delete(office: AdminService, as_json: bool, *, name: str) -> None:
    """Remove a group and its limits."""
    office.groups.delete(name)
    if as_json:
        context.show_json({"deleted": name})
    else:
        click.echo(f"{name} is gone")


@click.command(short_help="Who changed what, and when.")
@click.option("--last", default=50, show_default=True, type=click.IntRange(1, 10_000))
@context.command
def audit(office: AdminService, as_json: bool, *, last: int) -> None:
    """Show the last lines of the audit log, the newest first."""
    with office.database.read() as connection:
        rows = views.audit(connection, last)
    if as_json:
        context.show_json(rows)
        return
    for row in rows:
        row["at"] = context.when(row["at"])
    context.show_table(("at", "who", "via", "action", "target", "detail"), rows)
