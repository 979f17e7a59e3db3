"""A site that `headrace init` made, and clients that show what its real nats-servers permit."""

import asyncio
import base64
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import nkeys
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout

from headrace.cli.setup import installation
from headrace.cli.setup.site import Site, SiteCluster, SiteModel
from headrace.devcluster.loopback import free_ports

MODEL = "Test-Model"
EXTERNAL = "Sold-Model"
CLUSTER = "north"
OBSERVER = "observer"
"""A user that `with_observer` lets do anything, to see what comes through."""


def make_site(folder: Path) -> Site:
    """Install a site whose hub dials the leaf itself, as if bridge and gate were a wire."""
    hub, monitor, metrics, leaf, gate, api = free_ports(6)
    cluster = SiteCluster(
        name=CLUSTER,
        ssh_host="127.0.0.1",
        ssh_user="nobody",
        leaf_listen="127.0.0.1",
        leaf_port=leaf,
        gate_port=gate,
        link_port=gate,
        run_dir=str(folder / "clusters" / CLUSTER / "run"),
    )
    site = Site(
        clusters=(cluster,),
        models=(SiteModel(MODEL),),
        external=(SiteModel(EXTERNAL),),
        api_port=api,
        hub_port=hub,
        hub_monitor_port=monitor,
        bridge_metrics_port=metrics,
        run_dir=str(folder / "web/run"),
    )
    installation.install(folder, site)
    return site


def with_observer(config: Path) -> Path:
    """Add to a nats-server's configuration a user without any limit."""
    text = config.read_text()
    assert text.count("users: [") == 1
    user = f'users: [ {{ user: {OBSERVER}, password: "{OBSERVER}" }}\n'
    config.write_text(text.replace("users: [", user))
    return config


def observer_url(port: int) -> str:
    return f"nats://{OBSERVER}:{OBSERVER}@127.0.0.1:{port}"


def new_seed() -> str:
    """The seed of a user that nobody knows."""
    seed: bytes = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return seed.decode()


class Probe:
    """A client that notes what the server refuses it."""

    def __init__(self) -> None:
        self.client = Client()
        self.refusals: list[str] = []

    async def _on_error(self, error: Exception) -> None:
        self.refusals.append(str(error))

    async def connect(self, url: str, seed: str | None = None, inbox: str = "_INBOX") -> None:
        await self.client.connect(
            url,
            nkeys_seed_str=seed,
            inbox_prefix=inbox,
            error_cb=self._on_error,
            allow_reconnect=False,
            connect_timeout=20,
        )

    async def may_publish(self, subject: str) -> bool:
        """Whether the server takes a message with this subject."""
        self.refusals.clear()
        await self.client.publish(subject, b"{}")
        return await self._admitted()

    async def may_subscribe(self, subject: str) -> bool:
        """Whether the server takes a subscription to this subject."""
        self.refusals.clear()
        subscription = await self.client.subscribe(subject)
        admitted = await self._admitted()
        if admitted:
            await subscription.unsubscribe()
        return admitted

    async def settle(self) -> None:
        """Wait until the server has seen all that was sent, and we what it said to it."""
        # Twice, because nats-py sends the ping of a flush ahead of what waits to be sent.
        await self.client.flush()
        await self.client.flush()

    async def _admitted(self) -> bool:
        await self.settle()
        return not any("permissions violation" in text.lower() for text in self.refusals)


@contextlib.asynccontextmanager
async def probe(url: str, seed: str | None = None, inbox: str = "_INBOX") -> AsyncIterator[Probe]:
    made = Probe()
    await made.connect(url, seed, inbox)
    try:
        yield made
    finally:
        await made.client.close()


async def comes_through(
    sender: Probe, receiver: Probe, subjects: list[str], sentinel: str
) -> dict[str, bool]:
    """For each subject, whether a message that `sender` publishes reaches `receiver`.

    Below `sentinel` subjects are let through: on one path messages keep their order, so when a
    sentinel has come, what was sent before it has come or never will.
    """
    return {
        subject: await _comes(sender, receiver, subject, f"{sentinel}{number}")
        for number, subject in enumerate(subjects)
    }


async def _comes(sender: Probe, receiver: Probe, subject: str, sentinel: str) -> bool:
    came: asyncio.Queue[str] = asyncio.Queue()

    async def on_message(message: Msg) -> None:
        came.put_nowait(message.subject)

    # In this order: the interest in the sentinel crosses the link behind that in the subject.
    listening = [
        await receiver.client.subscribe(each, cb=on_message) for each in (subject, sentinel)
    ]
    await receiver.settle()
    seen: set[str] = set()
    async with asyncio.timeout(30):
        while sentinel not in seen:  # until the receiver's interest is known where it is sent
            for each in (subject, sentinel):
                await sender.client.publish(each, b"{}")
            await sender.settle()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    while sentinel not in seen:
                        seen.add(await came.get())
    for subscription in listening:
        await subscription.unsubscribe()
    return subject in seen


async def answered(asker: Probe, subjects: list[str], body: bytes = b"") -> dict[str, bool]:
    """For each subject, whether somebody answers a request to it."""
    found = {}
    for subject in subjects:
        try:
            await asker.client.request(subject, body, timeout=1.0)
        except (NoRespondersError, NatsTimeout):
            found[subject] = False
        else:
            found[subject] = True
    return found


def is_refused(port: int, seed: str | None = None, **options: str) -> bool:
    """Whether the server turns away who comes with this key or these options of CONNECT."""
    # By hand: nats-py leaves its socket open where it is refused.
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        lines = connection.makefile("rb")
        info = json.loads(lines.readline().removeprefix(b"INFO "))
        hello: dict[str, object] = {"verbose": False, "pedantic": False, "lang": "test", **options}
        if seed is not None:
            pair = nkeys.from_seed(bytearray(seed.encode()))
            signature = pair.sign(info["nonce"].encode())
            hello["nkey"] = pair.public_key.decode()
            hello["sig"] = base64.urlsafe_b64encode(signature).decode().rstrip("=")
        connection.sendall(b"CONNECT %s\r\nPING\r\n" % json.dumps(hello).encode())
        try:
            return not any(line.startswith(b"PONG") for line in lines)
        except ConnectionResetError:
            return True
