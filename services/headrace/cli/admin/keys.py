"""`headrace keys`: make, list, replace and revoke API keys."""

import time
from typing import Any

import click

from headrace.cli.admin import context
from headrace.gateway.admin import views
from headrace.gateway.admin.action import AdminError, RefusalReason
from headrace.gateway.admin.keys import Minted
from headrace.gateway.admin.service import AdminService
from headrace.gateway.store import queries
from headrace.protocol.endpoints import Endpoint

ENDPOINTS = tuple(endpoint.value for endpoint in Endpoint)
WAIT = "hold, fail, or a number of seconds: how long its requests wait unless they say so."


@click.group(short_help="Make, list, replace and revoke API keys.")
def keys() -> None:
    """API keys. A key is shown once, when it is made: only a digest of it is stored.

    What is said here holds on every running edge within 5 s.
    """


@keys.command()
@click.option("--owner", required=True, metavar="USER", help="Whose key it is.")
@click.option("--group", "groups", multiple=True, help="Narrow it to this group of the owner's.")
@click.option("--expires", callback=context.span, metavar="SPAN", help="Such as 30d or 12h.")
@click.option("--name", default="", help="What its owner calls it.")
@click.option("--model", "models", multiple=True, help="Narrow it to this model.")
@click.option("--endpoint", "endpoints", multiple=True, type=click.Choice(ENDPOINTS))
@click.option("--wait", default="", help=WAIT)
@click.option("--keepalive", default="", type=click.Choice(["", "comment", "chunk", "off"]))
@click.option("--admin", is_flag=True, help="It may administer the gateway over HTTP.")
@context.command
def create(
    office: AdminService,
    as_json: bool,
    *,
    owner: str,
    expires: float | None,
    **fields: Any,
) -> None:
    """Make a key. Its owner and groups are made where they are not there yet, and joined."""
    minted = office.keys.create(owner, seconds=expires, make=True, **fields)
    _show_minted(minted, as_json)


@keys.command("list")
@click.option("--owner", metavar="USER", help="Of this user alone.")
@click.option("--all", "every", is_flag=True, help="Those too that are over.")
@context.command
def list_(office: AdminService, as_json: bool, *, owner: str | None, every: bool) -> None:
    """List keys: those that work, the newest first."""
    now = time.time()
    with office.database.read() as connection:
        rows = [
            views.key(key, now)
            for key in queries.keys(connection, owner=owner)
            if every or key.lives(now)
        ]
    if as_json:
        context.show_json(rows)
        return
    for row in rows:
        for moment in ("expires", "last_used"):
            row[moment] = context.when(row[moment])
        row["groups"] = " ".join(row["groups"])
    columns = ("id", "owner", "name", "groups", "state", "expires", "last_used")
    context.show_table(columns, rows)


@keys.command()
@click.argument("id")
@context.command
def revoke(office: AdminService, as_json: bool, *, id: str) -> None:
    """End a key, at once and for good. Requests under way are not cut off."""
    key = office.keys.revoke(id)
    if as_json:
        context.show_json(views.key(key, time.time()))
    else:
        click.echo(f"{key.id} of {key.owner} is revoked")


@keys.command()
@click.argument("id")
@click.option(
    "--overlap", default="7d", callback=context.span, show_default=True, metavar="SPAN",
    help="How long the old key still works.",
)  # fmt: skip
@context.command
def rotate(office: AdminService, as_json: bool, *, id: str, overlap: float | None) -> None:
    """Make a new key in place of ID; both work until the overlap is over."""
    if overlap is None:
        raise AdminError(RefusalReason.INVALID, "an overlap ends")
    _show_minted(office.keys.rotate(id, overlap=overlap), as_json)


def _show_minted(minted: Minted, as_json: bool) -> None:
    if as_json:
        context.show_json({**views.key(minted.record, time.time()), "key": minted.key})
        return
    ends = context.when(minted.record.expires)
    click.echo(f"{minted.record.id} of {minted.record.owner}" + (f", until {ends}" * bool(ends)))
    click.echo(f"The key, shown this once:\n\n{minted.key}\n")
