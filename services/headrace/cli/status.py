"""`headrace status`: what a running service says of itself."""

import json
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from headrace.cli.http import HttpError, get, get_json


@click.command(short_help="Ask a running service how it is.")
@click.argument("url", default="http://127.0.0.1:8080")
@click.option(
    "--key",
    envvar="OPENAI_API_KEY",
    default="",
    metavar="KEY",
    help="An API key, for the models. [env: OPENAI_API_KEY]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def status(url: str, key: str, as_json: bool) -> None:
    """Ask the service at URL how it is: does it live, does it take requests, which models it has.

    Exits with 0 if it takes requests and with 1 if not.
    """  # fmt: skip
    found = look(url.rstrip("/").removesuffix("/v1"), key)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show(found)
    sys.exit(0 if found["ready"] else 1)


def look(url: str, key: str) -> dict[str, Any]:
    """What the service says, as one table of plain values."""
    found: dict[str, Any] = {"url": url, "alive": False, "ready": False, "reason": "", "models": []}
    try:
        found["alive"] = get(f"{url}/healthz")[0] == 200
        ready, body = get(f"{url}/readyz")
        found["ready"] = ready == 200
        if not found["ready"]:
            found["reason"] = _reason(body)
        elif key:
            page = get_json(f"{url}/v1/models", key)
            found["models"] = [{"id": each["id"], **each["headrace"]} for each in page["data"]]
    except (HttpError, KeyError, TypeError) as error:
        found["reason"] = str(error)
    return found


def show(found: dict[str, Any], console: Console | None = None) -> None:
    """The same for people."""
    console = console or Console(highlight=False)
    if found["ready"]:
        console.print(f"{found['url']} takes requests", style="green")
    else:
        state = "lives but takes no requests" if found["alive"] else "does not answer"
        console.print(f"{found['url']} {state}", style="red")
    if found["reason"]:
        console.print(found["reason"])
    if not found["models"]:
        return
    table = Table(header_style="bold")
    for column in ("model", "state", "workers", "slots", "running"):
        table.add_column(column)
    for model in found["models"]:
        numbers = (str(model.get(name, "")) for name in ("workers", "slots", "running"))
        table.add_row(model["id"], str(model.get("state", "")), *numbers)
    console.print(table)


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body).get("reason", ""))
    except (ValueError, AttributeError):
        return "what answers is not Headrace"
