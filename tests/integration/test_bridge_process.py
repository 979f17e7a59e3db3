"""The bridge as a process: what it carries, bounds, says, and how it ends."""

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from headrace.devcluster.loopback import free_port, free_ports
from tests.support.ssh_kit import LOCKED, OpenSsh, StartSsh, new_key, starter
from tests.support.tunnel_kit import Bridge, RawLeaf, Streams, Tunnel, until

pytestmark = pytest.mark.openssh

MEGABYTE = 1024 * 1024
SENT_BYTES = 64 * MEGABYTE
KERNEL_BYTES = 24 * MEGABYTE
"""What the kernel may hold of a direction: three pairs of sockets and two pipes."""


@pytest.fixture
async def leaf() -> AsyncIterator[RawLeaf]:
    async with RawLeaf().run() as leaf:
        yield leaf


@pytest.fixture
def tunnel(tmp_path: Path, start_sshd: StartSsh, leaf: RawLeaf) -> Tunnel:
    return Tunnel(tmp_path, start_sshd, gate_port=leaf.port)


class Running:
    """A bridge for one tunnel, running."""

    def __init__(self, tunnel: Tunnel, **more: Any) -> None:
        self.link_port, metrics_port = free_ports(2)
        self.tunnel = tunnel
        self.bridge = Bridge(
            tunnel.folder, tunnel.cluster(self.link_port, **more), metrics_port=metrics_port
        )
        self._dialled: list[asyncio.StreamWriter] = []

    def __enter__(self) -> Self:
        self.bridge.start()
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._dialled:
            writer.close()
        self.bridge.stop()

    async def dial(self) -> Streams:
        """Connect as the hub does."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.link_port)
        self._dialled.append(writer)
        return reader, writer

    async def joined(self, leaf: RawLeaf) -> tuple[Streams, Streams]:
        """A connection of the hub, and the leaf's end of it."""
        near = await self.dial()
        return near, await leaf.accepted()


async def closed(streams: Streams) -> None:
    """Wait until the other side has closed this connection."""
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(streams[0].read(1), 10) == b""
    streams[1].close()


# What it carries


@pytest.mark.parametrize("way", ["up", "down"])
async def test_64_mb_cross_intact_to_a_slow_reader_in_bounded_memory(
    tmp_path: Path, leaf: RawLeaf, way: str
) -> None:
    # Keys change many times on the way.
    with starter(lambda *lines: OpenSsh(*lines, settings=f"{LOCKED}RekeyLimit 4M\n")) as start:
        tunnel = Tunnel(tmp_path, start, gate_port=leaf.port)
        with Running(tunnel, silence_seconds=60) as running:
            await running.bridge.connected()
            near, far = await running.joined(leaf)
            far[1].write(b"INFO")
            assert await near[0].readexactly(4) == b"INFO"
            before = running.bridge.peak_bytes()
            (reader, _), (_, writer) = (far, near) if way == "up" else (near, far)

            block = os.urandom(MEGABYTE)
            expected, sent = hashlib.sha256(), 0

            async def send() -> None:
                nonlocal sent
                while sent < SENT_BYTES:
                    writer.write(block)
                    await writer.drain()
                    expected.update(block)
                    sent += len(block)

            sending = asyncio.create_task(send())
            # The reader does not read at all, until the writer is held back.
            stalled, last = time.monotonic(), -1
            while time.monotonic() - stalled < 1:
                if sent != last:
                    stalled, last = time.monotonic(), sent
                await asyncio.sleep(0.05)
            assert sent < KERNEL_BYTES
            received, count = hashlib.sha256(), 0
            while count < SENT_BYTES:
                data = await asyncio.wait_for(reader.read(65536), 30)
                assert data
                received.update(data)
                count += len(data)
            await sending
            assert received.digest() == expected.digest()
            assert running.bridge.peak_bytes() - before < 24 * MEGABYTE
            direction = "to_cluster" if way == "up" else "from_cluster"
            series = f'headrace_bridge_bytes_total{{cluster="alpha",direction="{direction}"}}'
            await until(lambda: running.bridge.metrics()[series] >= SENT_BYTES)


async def test_what_the_hub_says_before_the_session_is_there_arrives(
    tunnel: Tunnel, leaf: RawLeaf
) -> None:
    with Running(tunnel) as running:
        await running.bridge.connected()
        near = await running.dial()
        near[1].write(b"first words")
        far = await leaf.accepted()
        assert await asyncio.wait_for(far[0].readexactly(11), 10) == b"first words"


async def test_a_bridge_that_was_stopped_cuts_nothing_that_lives(
    tunnel: Tunnel, leaf: RawLeaf
) -> None:
    with Running(tunnel, silence_seconds=2) as running:
        await running.bridge.connected()
        near, far = await running.joined(leaf)

        async def speak() -> None:
            while True:
                far[1].write(b"PING")
                await asyncio.sleep(0.2)

        speaking = asyncio.create_task(speak())
        await near[0].readexactly(4)
        running.bridge.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(4)
        running.bridge.process.send_signal(signal.SIGCONT)
        near[1].write(b"PONG")
        assert await asyncio.wait_for(far[0].readexactly(4), 10) == b"PONG"
        await asyncio.sleep(1.5)  # three looks of the watchdog
        assert not running.bridge.log("trouble")
        speaking.cancel()


# Bounds


async def test_more_connections_than_it_may_make_are_closed_at_once(
    tunnel: Tunnel, leaf: RawLeaf
) -> None:
    with Running(tunnel, max_sessions=2) as running:
        await running.bridge.connected()
        first, _ = await running.joined(leaf)
        second, far = await running.joined(leaf)
        await closed(await running.dial())
        assert "more than 2" in running.bridge.troubles()["too_many"]
        # The others are not disturbed, and one that ends makes place.
        far[1].write(b"here")
        assert await second[0].readexactly(4) == b"here"
        first[1].close()
        sessions = 'headrace_bridge_sessions{cluster="alpha"}'
        await until(lambda: running.bridge.metrics()[sessions] == 1)
        third, far = await running.joined(leaf)
        far[1].write(b"here")
        assert await third[0].readexactly(4) == b"here"


async def test_without_ssh_a_connection_of_the_hub_is_closed_at_once(
    tunnel: Tunnel, leaf: RawLeaf
) -> None:
    tunnel.ssh.stop()
    with Running(tunnel) as running:
        await running.bridge.ready()
        await closed(await running.dial())
        tunnel.ssh.start()
        await running.bridge.connected()
        near, far = await running.joined(leaf)
        tunnel.ssh.stop()
        await closed(near)
        await closed(far)


async def test_one_end_closes_with_the_other(tunnel: Tunnel, leaf: RawLeaf) -> None:
    with Running(tunnel) as running:
        await running.bridge.connected()
        near, far = await running.joined(leaf)
        far[1].write(b"-ERR 'Authorization Violation'\r\n")
        far[1].close()
        assert await near[0].read() == b"-ERR 'Authorization Violation'\r\n"
        near[1].close()
        near, far = await running.joined(leaf)
        near[1].close()
        await closed(far)
        await until(lambda: not tunnel.gates())


async def test_clusters_do_not_disturb_each_other(tunnel: Tunnel, leaf: RawLeaf) -> None:
    link, dead, nowhere, metrics = free_ports(4)
    alpha = tunnel.cluster(link)
    beta = tunnel.cluster(dead, name="beta", port=nowhere)
    bridge = Bridge(tunnel.folder, alpha, beta, metrics_port=metrics)
    bridge.start()
    try:
        await bridge.connected()
        await until(lambda: "unreachable" in bridge.troubles())
        assert bridge.metrics()['headrace_bridge_up{cluster="alpha"}'] == 1
        assert bridge.metrics()['headrace_bridge_up{cluster="beta"}'] == 0
        near = await asyncio.open_connection("127.0.0.1", link)
        far = await leaf.accepted()
        far[1].write(b"here")
        assert await near[0].readexactly(4) == b"here"
        near[1].close()
        await closed(await asyncio.open_connection("127.0.0.1", dead))
    finally:
        bridge.stop()


# What it says, and that a repair is enough


async def test_an_unknown_host(tunnel: Tunnel) -> None:
    known = tunnel.ssh.known_hosts.read_text()
    tunnel.ssh.known_hosts.write_text("# none yet\n")
    with Running(tunnel) as running:
        await until(running.bridge.troubles)
        assert "has no key of 127.0.0.1" in running.bridge.troubles()["host_unknown"]
        tunnel.ssh.known_hosts.write_text(known)
        await running.bridge.connected()


async def test_another_host_key(tunnel: Tunnel) -> None:
    known = tunnel.ssh.known_hosts.read_text()
    name = known.split()[0]
    other = new_key(tunnel.folder / "other")
    tunnel.ssh.known_hosts.write_text(f"{name} {other.public}\n")
    with Running(tunnel) as running:
        await until(running.bridge.troubles)
        assert "in between" in running.bridge.troubles()["host_key_changed"]
        tunnel.ssh.known_hosts.write_text(known)
        await running.bridge.connected()


async def test_a_refused_key(tunnel: Tunnel) -> None:
    admitted = tunnel.ssh.authorized_keys.read_text()
    tunnel.ssh.authorized_keys.write_text("")
    with Running(tunnel) as running:
        await until(running.bridge.troubles)
        assert "refused the key" in running.bridge.troubles()["key_refused"]
        tunnel.ssh.authorized_keys.write_text(admitted)
        await running.bridge.connected()


async def test_a_leaf_that_does_not_run(tmp_path: Path, start_sshd: StartSsh) -> None:
    tunnel = Tunnel(tmp_path, start_sshd, gate_port=free_port())
    with Running(tunnel) as running:
        await running.bridge.connected()
        await closed(await running.dial())
        await until(running.bridge.troubles)
        assert "nats-server: is it running" in running.bridge.troubles()["gate"]


async def test_a_gate_that_was_moved(tunnel: Tunnel) -> None:
    tunnel.gate.unlink()
    with Running(tunnel) as running:
        await running.bridge.connected()
        await closed(await running.dial())
        await until(running.bridge.troubles)
        assert "there is no gate" in running.bridge.troubles()["gate"]


async def test_a_key_that_others_came_to_read_is_not_used_again(tunnel: Tunnel) -> None:
    with Running(tunnel) as running:
        await running.bridge.connected()
        tunnel.key.private.chmod(0o644)
        tunnel.ssh.kill_sessions()
        await until(lambda: "bad_file" in running.bridge.troubles())
        tunnel.key.private.chmod(0o600)
        await running.bridge.connected(2)


def spoil_mode(tunnel: Tunnel) -> None:
    tunnel.key.private.chmod(0o640)


def spoil_key(tunnel: Tunnel) -> None:
    tunnel.key.private.write_text("not a key\n")


def spoil_passphrase(tunnel: Tunnel) -> None:
    change = ["ssh-keygen", "-p", "-q", "-N", "secret", "-P", "", "-f", str(tunnel.key.private)]
    subprocess.run(change, check=True, stdout=subprocess.DEVNULL)


def spoil_key_file(tunnel: Tunnel) -> None:
    tunnel.key.private.unlink()


def spoil_known_hosts(tunnel: Tunnel) -> None:
    tunnel.ssh.known_hosts.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_mode, "chmod 600"),
        (spoil_key, "not a private key"),
        (spoil_passphrase, "passphrase"),
        (spoil_key_file, "cannot be read"),
        (spoil_known_hosts, "cannot be read"),
    ],
)
async def test_files_that_cannot_be_used_end_it_at_the_start(
    tunnel: Tunnel, spoil: Any, words: str
) -> None:
    spoil(tunnel)
    bridge = Bridge(tunnel.folder, tunnel.cluster(free_port()))
    bridge.start()
    assert await asyncio.to_thread(bridge.process.wait, 10) == 78
    (line,) = bridge.log()
    assert line["action"] == "bad_configuration"
    assert words in line["reason"]


async def test_a_port_that_is_taken_ends_it_at_the_start(tunnel: Tunnel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bridge = Bridge(tunnel.folder, tunnel.cluster(taken.getsockname()[1]))
        bridge.start()
        assert await asyncio.to_thread(bridge.process.wait, 10) == 1
    assert "cannot listen on port" in bridge.log("fatal")[0]["reason"]


# How it ends


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """A port where somebody listens and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_it_ends_at_once_while_it_carries(tunnel: Tunnel, leaf: RawLeaf) -> None:
    with Running(tunnel) as running:
        await running.bridge.connected()
        near, far = await running.joined(leaf)
        near[1].write(b"here")
        await far[0].readexactly(4)
        begun = time.monotonic()
        assert running.bridge.stop() == 0
        assert time.monotonic() - begun < 1
        await closed(near)
        await closed(far)
        await until(lambda: not tunnel.gates())


async def test_it_ends_at_once_while_it_connects(tunnel: Tunnel) -> None:
    with silent_server() as port, Running(tunnel, port=port) as running:
        await running.bridge.ready()
        begun = time.monotonic()
        assert running.bridge.stop() == 0
        assert time.monotonic() - begun < 1
