"""An SSH server for the demo, where OpenSSH's is not installed.

It honours the same line of ``authorized_keys`` and nothing beyond it: a key must carry `restrict`
and `command`, and whatever its holder asks for, that command runs. No pty, shell, subsystem,
forwarding or environment exists here at all. Not for use outside a demo or a test.
"""

import argparse
import asyncio
import shlex
from pathlib import Path
from typing import Final, cast

import asyncssh

from headrace.runtime import lifecycle, logging
from headrace.runtime.config import ConfigError
from headrace.runtime.lifecycle import FatalError, Lifecycle

ADDRESS: Final = "127.0.0.1"

ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
"""All that the command gets of an environment: nothing of ours, nothing of the client's."""


class EmbeddedServer(asyncssh.SSHServer):
    """One connection. What is not overridden here, asyncssh refuses: every kind of forwarding."""

    def __init__(self, connections: set[asyncssh.SSHServerConnection]) -> None:
        self._connections = connections
        self._connection: asyncssh.SSHServerConnection

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._connections.discard(self._connection)

    def session_requested(self) -> "EmbeddedSession":
        return EmbeddedSession(self._connection)


class EmbeddedSession(asyncssh.SSHServerSession[bytes]):
    """One session: the forced command, joined to the channel.

    asyncssh asks for the forced command where the client asked for a shell, a subsystem or another
    command. What is not overridden here, it refuses: a pty, and all of these without the option.
    """

    def __init__(self, connection: asyncssh.SSHServerConnection) -> None:
        self._command = connection.get_key_option("command")
        self._restricted = connection.get_key_option("restrict") is True
        self._channel: asyncssh.SSHServerChannel[bytes]
        self._program: Program | None = None
        self._task: asyncio.Task[None] | None = None
        self._early: list[bytes] = []
        self._early_eof = False
        self._closed = False

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        return self._restricted and command == self._command

    def session_started(self) -> None:
        self._task = asyncio.create_task(self._start(), name="start the forced command")

    async def _start(self) -> None:
        argv = shlex.split(cast(str, self._command))
        try:
            transport, program = await asyncio.get_running_loop().subprocess_exec(
                lambda: Program(self._channel), *argv, env=ENVIRONMENT
            )
        except OSError:
            self._channel.exit(127)  # as a shell says that there is no such command
            return
        if self._closed:
            transport.kill()
            return
        self._program = program
        for data in self._early:
            program.write(data)
        self._early.clear()
        if self._early_eof:
            program.stdin.close()
        self._channel.resume_reading()

    def data_received(self, data: bytes, _datatype: asyncssh.DataType) -> None:
        if self._program is None:
            self._early.append(data)
            self._channel.pause_reading()
        else:
            self._program.write(data)

    def eof_received(self) -> bool:
        if self._program is None:
            self._early_eof = True
        else:
            self._program.stdin.close()
        return True  # the command may still have something to say

    def pause_writing(self) -> None:
        if self._program is not None:
            self._program.stdout.pause_reading()

    def resume_writing(self) -> None:
        if self._program is not None:
            self._program.stdout.resume_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._closed = True
        if self._program is not None:
            self._program.kill()


class Program(asyncio.SubprocessProtocol):
    """The forced command as it runs."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = channel
        self._transport: asyncio.SubprocessTransport
        self.stdin: asyncio.WriteTransport
        self.stdout: asyncio.ReadTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self.stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        self.stdout = cast(asyncio.ReadTransport, self._transport.get_pipe_transport(1))

    def write(self, data: bytes) -> None:
        """Send `data` to the program's stdin, if it is open."""
        if not self.stdin.is_closing():
            self.stdin.write(data)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if not self._channel.is_closing():
            self._channel.write(data, asyncssh.EXTENDED_DATA_STDERR if fd == 2 else None)

    def pause_writing(self) -> None:
        self._channel.pause_reading()

    def resume_writing(self) -> None:
        self._channel.resume_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        # The program has ended and its pipes are empty.
        if not self._channel.is_closing():
            self._channel.exit(self._transport.get_returncode() or 0)

    def kill(self) -> None:
        """End it at once: the session is over."""
        if self._transport.get_returncode() is None:
            self._transport.kill()


def check(authorized_keys: Path) -> None:
    """Refuse a file with a key that may do more than run one command. Raises ConfigError."""
    try:
        lines = authorized_keys.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{authorized_keys}: cannot be read: {error.strerror}") from error
    for line in lines:
        if line.strip() and not line.startswith(("#", 'restrict,command="')):
            raise ConfigError(f'{authorized_keys}: a line does not begin with restrict,command="')


async def serve(life: Lifecycle, port: int, host_key: Path, authorized_keys: Path) -> int:
    """Serve on `port` of the loopback until told to stop."""
    check(authorized_keys)
    connections: set[asyncssh.SSHServerConnection] = set()
    try:
        acceptor = await asyncssh.listen(
            ADDRESS,
            port,
            server_factory=lambda: EmbeddedServer(connections),
            server_host_keys=[str(host_key)],
            authorized_client_keys=str(authorized_keys),
            encoding=None,
            agent_forwarding=False,
            x11_forwarding=False,
            allow_pty=False,
            allow_scp=False,
            gss_host=None,
            compression_algs=None,
        )
    except asyncssh.KeyImportError as error:
        raise ConfigError(f"{host_key}: not a private key that SSH can use") from error
    except OSError as error:
        raise FatalError(f"cannot listen on {ADDRESS}:{port}: {error.strerror}") from error
    life.ready()
    async with acceptor:
        await life.stopping.wait()
        for connection in connections:
            connection.abort()
    await asyncio.sleep(0)  # for the sessions to see it, and to end their programs
    return 0


def main(argv: list[str] | None = None) -> int:
    """``python -m headrace.cli.demo.embedded_sshd``"""
    parser = argparse.ArgumentParser(
        prog="python -m headrace.cli.demo.embedded_sshd", description=__doc__
    )
    parser.add_argument("--port", type=int, required=True, help="on the loopback")
    parser.add_argument("--host-key", type=Path, required=True, help="the server's private key")
    parser.add_argument("--authorized-keys", type=Path, required=True, help="OpenSSH's format")
    given = parser.parse_args(argv)
    log = logging.setup("sshd")
    return lifecycle.run(
        lambda life: serve(life, given.port, given.host_key, given.authorized_keys), log
    )


if __name__ == "__main__":
    raise SystemExit(main())
