"""The SSH connection to one cluster: how it is made, and what is asked of it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import asyncssh

from headrace.bridge.options import BridgeCluster
from headrace.bridge.pump import PipeEnd
from headrace.runtime.config import ConfigError, read_secret

CONNECT_SECONDS: Final = 8.0
"""From the first packet to a session: key exchange and authentication on a busy login node."""

KEEPALIVE_SECONDS: Final = 5
KEEPALIVE_COUNT: Final = 3

CIPHERS: Final = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
)
"""What we ask for, best first. Left to itself asyncssh asks for ChaCha20 first, which took 1.6
times the processor time of AES-GCM for a small message, side by side in one run."""

WINDOW_BYTES: Final = 2 * 1024 * 1024
"""What the cluster may send before we have taken it: the bound of a pipe whose hub is slow, and
with the round trip the bound of its speed, 200 MB/s at 10 ms. On a short way 1 and 8 MiB measured
the same."""

PACKET_BYTES: Final = 32 * 1024
"""sshd reads no more at a time from the gate. 64 and 256 KiB measured the same or slower."""

COMMAND: Final = "headrace-gate"
"""What we ask for. The forced command of the key decides what runs, whatever is asked."""


class SshClient(asyncssh.SSHClient):
    """Remembers why the connection ended."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc


class GateSession(asyncssh.SSHClientSession[bytes]):
    """The cluster's end of a pipe, as asyncssh calls it."""

    def __init__(self, end: PipeEnd, exited: Callable[[int], None]) -> None:
        self._end = end
        self._exited = exited
        self._channel: asyncssh.SSHClientChannel[bytes]

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def session_started(self) -> None:
        # Not before: sshd drops what reaches a session that runs nothing yet.
        self._end.connection_made(self._channel)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype is None:  # what the gate complains of on stderr, its exit code tells as well
            self._end.data_received(data)

    def pause_writing(self) -> None:
        self._end.pause_writing()

    def resume_writing(self) -> None:
        self._end.resume_writing()

    def exit_status_received(self, status: int) -> None:
        self._exited(status)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.connection_lost(exc)


def identity(cluster: BridgeCluster) -> asyncssh.SSHKey:
    """The private key of the tunnel. Raises ConfigError."""
    text = read_secret(cluster.key)
    try:
        return asyncssh.import_private_key(text)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise ConfigError(
            f"{cluster.key}: not a private key that SSH can use without a passphrase, which nobody "
            "is there to type"
        ) from error


def check(cluster: BridgeCluster) -> None:
    """Look at the files that `connect` needs. Raises ConfigError."""
    identity(cluster)
    try:
        asyncssh.import_known_hosts(Path(cluster.known_hosts).read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"{cluster.known_hosts}: cannot be read: {error.strerror}"
        raise ConfigError(reason) from error
    except ValueError as error:
        raise ConfigError(f"{cluster.known_hosts}: not a known_hosts file") from error


async def connect(cluster: BridgeCluster) -> tuple[asyncssh.SSHClientConnection, SshClient]:
    """A connection that is authenticated both ways.

    The files are read each time, so that what an operator repairs counts at once. Raises
    ConfigError, OSError, TimeoutError or asyncssh.Error.
    """
    check(cluster)
    async with asyncio.timeout(CONNECT_SECONDS):
        connection, client = await asyncssh.create_connection(
            SshClient,
            cluster.host,
            cluster.port,
            username=cluster.user,
            client_keys=[identity(cluster)],
            known_hosts=cluster.known_hosts,
            # Nothing of the account that we run under: no configuration, agent, password, Kerberos.
            config=None,
            agent_path=None,
            gss_host=None,
            preferred_auth=["publickey"],
            # A server that asks for no proof of the key is not the one that has our line.
            disable_trivial_auth=True,
            compression_algs=None,
            encryption_algs=CIPHERS,
            keepalive_interval=KEEPALIVE_SECONDS,
            keepalive_count_max=KEEPALIVE_COUNT,
        )
    return connection, cast(SshClient, client)


async def open_session(
    connection: asyncssh.SSHClientConnection, end: PipeEnd, exited: Callable[[int], None]
) -> None:
    """Have the gate run behind `end`. Raises asyncssh.Error."""
    await connection.create_session(
        lambda: GateSession(end, exited),
        COMMAND,
        encoding=None,
        window=WINDOW_BYTES,
        max_pktsize=PACKET_BYTES,
    )
