"""The gate as the forced command of each SSH server: the embedded one is held against OpenSSH."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from headrace.devcluster.loopback import free_port
from headrace.gate.main import EXIT_UNREACHABLE
from tests.support.ssh_kit import EmbeddedSsh, StartSsh, new_key
from tests.support.tunnel_kit import RawLeaf, Tunnel, gone

REQUESTS: list[dict[str, Any]] = [
    {"command": "touch {loot}"},
    {"command": None},
    {"command": "sh", "env": {"SSH_ORIGINAL_COMMAND": "sh"}},
]
MEGABYTE = 1024 * 1024


@pytest.fixture
async def leaf() -> AsyncIterator[RawLeaf]:
    async with RawLeaf().run() as leaf:
        yield leaf


@pytest.fixture
def tunnel(tmp_path: Path, start_ssh: StartSsh, leaf: RawLeaf) -> Tunnel:
    return Tunnel(tmp_path, start_ssh, gate_port=leaf.port)


@contextlib.asynccontextmanager
async def connected(tunnel: Tunnel) -> AsyncIterator[asyncssh.SSHClientConnection]:
    async with asyncssh.connect(
        "127.0.0.1",
        tunnel.ssh.port,
        username=tunnel.ssh.user,
        client_keys=[str(tunnel.key.private)],
        known_hosts=str(tunnel.ssh.known_hosts),
        config=None,
        agent_path=None,
    ) as connection:
        yield connection


async def session(
    connection: asyncssh.SSHClientConnection, **request: Any
) -> asyncssh.SSHClientProcess[bytes]:
    """Ask for what `request` says; the gate is what runs."""
    return await connection.create_process(**{"command": "gate"} | request, encoding=None)


@pytest.mark.parametrize("request_", REQUESTS, ids=["command", "shell", "environment"])
async def test_whatever_is_asked_for_is_the_gate(
    tunnel: Tunnel, leaf: RawLeaf, tmp_path: Path, request_: dict[str, Any]
) -> None:
    loot = tmp_path / "loot"
    asked = dict(request_)
    if asked["command"]:
        asked["command"] = asked["command"].format(loot=loot)
    async with connected(tunnel) as connection:
        process = await session(connection, **asked)
        reader, writer = await leaf.accepted()
        process.stdin.write(b"to the leaf")
        assert await reader.readexactly(11) == b"to the leaf"
        writer.write(b"to the session")
        assert await process.stdout.readexactly(14) == b"to the session"
        assert not loot.exists()


async def test_megabytes_cross_both_ways_at_once(tunnel: Tunnel, leaf: RawLeaf) -> None:
    up, down = os.urandom(8 * MEGABYTE), os.urandom(8 * MEGABYTE)
    async with connected(tunnel) as connection:
        process = await session(connection)
        reader, writer = await leaf.accepted()
        process.stdin.write(up)
        writer.write(down)
        async with asyncio.timeout(30):
            got = await asyncio.gather(
                reader.readexactly(len(up)), process.stdout.readexactly(len(down))
            )
        assert tuple(got) == (up, down)


async def test_a_leaf_that_is_not_read_is_held_back(tunnel: Tunnel, leaf: RawLeaf) -> None:
    async with connected(tunnel) as connection:
        process = await session(connection, window=MEGABYTE)
        _, writer = await leaf.accepted()
        writer.write(bytes(64 * MEGABYTE))
        waiting = -1
        while waiting != (now := writer.transport.get_write_buffer_size()):
            waiting = now
            await asyncio.sleep(0.3)
        assert waiting > 32 * MEGABYTE
        async with asyncio.timeout(30):
            await process.stdout.readexactly(64 * MEGABYTE)


async def test_the_session_ends_with_the_leaf(tunnel: Tunnel, leaf: RawLeaf) -> None:
    async with connected(tunnel) as connection:
        process = await session(connection)
        _, writer = await leaf.accepted()
        writer.write(b"goodbye")
        writer.close()
        assert await process.stdout.read() == b"goodbye"
        done = await process.wait()
        assert (done.exit_status, done.stderr) == (0, b"")


async def test_the_gate_ends_with_the_session(tunnel: Tunnel, leaf: RawLeaf) -> None:
    async with connected(tunnel) as connection:
        process = await session(connection)
        reader, _ = await leaf.accepted()
        process.stdin.write(b"the last words")
        process.stdin.write_eof()
        assert await reader.read() == b"the last words"
        assert (await process.wait()).exit_status == 0


async def test_the_gate_ends_with_the_connection(tunnel: Tunnel, leaf: RawLeaf) -> None:
    async with connected(tunnel) as connection:
        await session(connection)
        reader, _ = await leaf.accepted()
        gates = tunnel.gates()
        assert len(gates) == 1
        connection.abort()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        await gone(gates)


async def test_a_leaf_that_is_not_there(tmp_path: Path, start_ssh: StartSsh) -> None:
    tunnel = Tunnel(tmp_path, start_ssh, gate_port=free_port())
    async with connected(tunnel) as connection:
        done = await (await session(connection)).wait()
        assert (done.exit_status, done.stdout) == (EXIT_UNREACHABLE, b"")
        assert isinstance(done.stderr, bytes)
        assert b"can't be reached" in done.stderr


async def test_a_gate_that_is_not_there(tunnel: Tunnel) -> None:
    tunnel.gate.unlink()
    async with connected(tunnel) as connection:
        assert (await (await session(connection)).wait()).exit_status == 127


async def test_another_key_is_refused(tunnel: Tunnel, tmp_path: Path) -> None:
    tunnel.key = new_key(tmp_path / "another")
    with pytest.raises(asyncssh.PermissionDenied):
        async with connected(tunnel):
            pass


@pytest.mark.parametrize("ssh_kind", ["embedded"], indirect=True)
async def test_no_gate_outlives_the_embedded_server(tunnel: Tunnel, leaf: RawLeaf) -> None:
    async with connected(tunnel) as connection:
        await session(connection)
        await leaf.accepted()
        gates = tunnel.gates()
        os.kill(gates[0], signal.SIGSTOP)  # not even one that can't hear
        os.kill(tunnel.ssh.pid, signal.SIGTERM)
        await gone(gates)


@pytest.mark.parametrize("line", ["{key}", 'command="/bin/sh" {key}', "restrict {key}"])
def test_the_embedded_server_takes_no_key_that_may_do_more(tmp_path: Path, line: str) -> None:
    server = EmbeddedSsh(tmp_path, line.format(key=new_key(tmp_path / "key").public))
    done = subprocess.run(server.argv(), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 78
    assert 'does not begin with restrict,command="' in done.stderr
