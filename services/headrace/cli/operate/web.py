"""`headrace top` on the web machine: hears what all workers tell, through the hub."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.live import Live

from headrace.cli import nats_session
from headrace.cli.operate import web_tables
from headrace.cli.operate.live_view import LiveView
from headrace.protocol import codec, names, subjects
from headrace.protocol.errors import HeadraceError
from headrace.runtime import config
from headrace.runtime.nats.bus import Bus, BusOptions, Message

EDGE_FILE: Final = "edge.toml"

LISTEN_SECONDS: Final = 2.2
"""By then every worker has told of itself twice, so that there is a rate."""


class WebFile(msgspec.Struct, frozen=True):
    """What of ``edge.toml`` one needs to listen as the edge does."""

    bus: BusOptions = BusOptions()


def load(folder: Path) -> BusOptions:
    """How to connect, from the `edge.toml` in `folder`. Raises ClickException."""
    try:
        bus = config.load(folder / EDGE_FILE, WebFile, os.environ, "edge").bus
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from error
    seed = str(config.resolve(folder, bus.nkey_file)) if bus.nkey_file else ""
    return msgspec.structs.replace(bus, nkey_file=seed)


def show(folder: Path, console: Console, *, as_json: bool, once: bool, interval: float) -> bool:
    """Print it once, or until Ctrl-C; whether every model is well. Raises ClickException."""
    options = load(folder)
    try:
        return asyncio.run(_show(options, console, as_json=as_json, once=once, interval=interval))
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        return True


async def _show(
    options: BusOptions, console: Console, *, as_json: bool, once: bool, interval: float
) -> bool:
    who = names.new_process_id()
    bus, reason = await nats_session.connect(
        options, name=f"top-{who}", inbox=subjects.edge_inbox(who)
    )
    try:
        if reason:
            raise click.ClickException(
                f"the hub at {options.url} cannot be asked: {reason}. Is it running, and is this "
                "the web machine?"
            )
        heard = await listen(bus)
        await asyncio.sleep(LISTEN_SECONDS)
        if as_json:
            click.echo(json.dumps(web_tables.plain(heard, time.monotonic()), indent=2))
        elif once:
            console.print(web_tables.top(heard, time.monotonic(), time.time()))
        else:
            await _watch(heard, console, interval)
        return all(each["state"] != "failed" for each in web_tables.plain(heard, time.monotonic()))
    finally:
        await bus.close()


async def listen(bus: Bus) -> LiveView:
    """Hear heartbeats and plans from now on."""
    heard = LiveView()

    def on_state(message: Message) -> None:
        try:
            heard.on_state(codec.decode_state(message.data), time.monotonic())
        except HeadraceError:
            return

    def on_plan(message: Message) -> None:
        try:
            heard.on_plan(codec.decode_plan(message.data), time.monotonic())
        except HeadraceError:
            return

    await bus.subscribe(subjects.STATES, on_state)
    await bus.subscribe(subjects.PLANS, on_plan)
    return heard


async def _watch(heard: LiveView, console: Console, interval: float) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(web_tables.top(heard, time.monotonic(), time.time()), refresh=True)
            await asyncio.sleep(interval)
