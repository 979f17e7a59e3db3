"""Real SSH servers for tests, on free ports of the loopback, with host and user keys of their own.

Three of them take the same `authorized_keys`: OpenSSH with everything allowed that a centre might
allow, so that what a key's line denies is denied by the line alone; OpenSSH with everything off,
where Headrace must work as well; and the embedded server of the demo.
"""

import contextlib
import getpass
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import asyncssh
import pytest

from headrace.devcluster.loopback import free_port
from loadtests.processes import ended
from tests.support.parts import sshd
from tests.support.processes import alive

START_SECONDS = 60.0
STOP_SECONDS = 5.0
USER = getpass.getuser()

COMMON = """
Port {port}
ListenAddress 127.0.0.1
HostKey {host_key}
AuthorizedKeysFile {authorized_keys}
PidFile none
StrictModes no
UsePAM no
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
LogLevel VERBOSE
"""

PERMISSIVE = """
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
AllowAgentForwarding yes
StreamLocalBindUnlink yes
GatewayPorts yes
PermitOpen any
PermitListen any
X11Forwarding yes
PermitTunnel yes
PermitTTY yes
PermitUserRC yes
PermitUserEnvironment yes
AcceptEnv *
Subsystem sftp internal-sftp
"""

LOCKED = """
DisableForwarding yes
AllowTcpForwarding no
AllowStreamLocalForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitTunnel no
PermitTTY no
PermitUserRC no
PermitUserEnvironment no
"""


def children(pid: int) -> list[int]:
    """The processes that `pid` has started and that run."""
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


class Key(NamedTuple):
    """A user's key: the private key's file, and the public key's line without a comment."""

    private: Path
    public: str


def new_key(path: Path) -> Key:
    """A fresh ed25519 key at `path`, 0600."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    return Key(path, " ".join(key.export_public_key().decode().split()[:2]))


class SshServer:
    """An SSH server that runs. It starts again on the same port with the same host key."""

    def __init__(self, folder: Path, *lines: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.user = USER
        self.authorized_keys = folder / "authorized_keys"
        self.authorized_keys.write_text("".join(f"{line}\n" for line in lines))
        self.host_key = new_key(folder / "host_key")
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {self.host_key.public}\n")
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def argv(self) -> list[str]:
        """The server's command line."""
        raise NotImplementedError

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no SSH server on {self.port}:\n{self.log()}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def sessions(self) -> list[int]:
        """The processes that serve one connection each."""
        return [] if self._process is None else children(self.pid)

    def kill_sessions(self, number: signal.Signals = signal.SIGKILL) -> list[int]:
        """Signal the processes of all connections, and tell which they were."""
        pids = self.sessions()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids

    def stop(self) -> None:
        """End the server and every connection."""
        process, self._process = self._process, None
        if process is None:
            return
        below = children(process.pid)
        for pid in [process.pid, *below]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGTERM)
        ended(process, STOP_SECONDS)
        deadline = time.monotonic() + STOP_SECONDS
        while any(alive(pid) for pid in below) and time.monotonic() < deadline:
            time.sleep(0.02)

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def trust(self, port: int) -> None:
        """Add `port`, which leads here as well, to the known hosts."""
        with self.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {self.host_key.public}\n")

    def client(self, key: Key, *options: str, program: str = "ssh") -> list[str]:
        """The beginning of the command line of OpenSSH's `program` for this server and `key`."""
        port = "-P" if program in {"scp", "sftp"} else "-p"
        settings = (
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={self.known_hosts}",
            "GlobalKnownHostsFile=/dev/null",
            "ConnectTimeout=10",
        )
        argv = [program, "-F", "none", port, str(self.port), "-i", str(key.private)]
        for setting in settings:
            argv += ["-o", setting]
        return [*argv, *options]

    @property
    def target(self) -> str:
        return f"{self.user}@127.0.0.1"


class OpenSsh(SshServer):
    """OpenSSH's sshd, as it is installed."""

    def __init__(self, folder: Path, *lines: str, settings: str) -> None:
        super().__init__(folder, *lines)
        self._program = sshd()
        self.config = folder / "sshd_config"
        text = COMMON.format(
            port=self.port,
            host_key=self.host_key.private,
            authorized_keys=self.authorized_keys,
        )
        self.config.write_text(text + settings + penalties())

    def argv(self) -> list[str]:
        return [str(self._program), "-D", "-e", "-f", str(self.config)]


class EmbeddedSsh(SshServer):
    """The demo's own server."""

    def argv(self) -> list[str]:
        return [
            *(sys.executable, "-m", "headrace.cli.demo.embedded_sshd"),
            *("--port", str(self.port)),
            *("--host-key", str(self.host_key.private)),
            *("--authorized-keys", str(self.authorized_keys)),
        ]


def penalties() -> str:
    """OpenSSH 9.8 and later lock out an address that fails often, as a security test does."""
    said = subprocess.run([sshd(), "-V"], capture_output=True, text=True, check=False).stderr
    version = re.search(r"OpenSSH_(\d+)\.(\d+)", said)
    if version and (int(version[1]), int(version[2])) >= (9, 8):
        return "PerSourcePenalties no\n"
    return ""


KINDS: dict[str, Callable[..., SshServer]] = {
    "permissive": lambda folder, *lines: OpenSsh(folder, *lines, settings=PERMISSIVE),
    "locked": lambda folder, *lines: OpenSsh(folder, *lines, settings=LOCKED),
    "embedded": EmbeddedSsh,
}


class StartSsh(Protocol):
    """Start a server on a folder of its own and lines of authorized_keys; it ends with the test."""

    def __call__(self, folder: Path, *lines: str) -> SshServer: ...


@contextlib.contextmanager
def starter(make: Callable[..., SshServer]) -> Iterator[StartSsh]:
    """What starts servers that `make` makes."""
    with contextlib.ExitStack() as servers:

        def start(folder: Path, *lines: str) -> SshServer:
            server = make(folder, *lines)
            servers.callback(server.stop)
            server.start()
            return server

        yield start


@pytest.fixture(
    params=[
        pytest.param("permissive", marks=pytest.mark.openssh),
        pytest.param("locked", marks=pytest.mark.openssh),
        "embedded",
    ]
)
def ssh_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of server: the test runs once with each."""
    kind: str = request.param
    return kind


@pytest.fixture
def start_ssh(ssh_kind: str) -> Iterator[StartSsh]:
    """Start a server of each kind: the test runs once with each."""
    with starter(KINDS[ssh_kind]) as start:
        yield start


@pytest.fixture
def start_sshd() -> Iterator[StartSsh]:
    """Start OpenSSH with everything off, for a test that is marked `openssh`."""
    with starter(KINDS["locked"]) as start:
        yield start
