"""What somebody with a stolen key would try. Each attempt tells whether it got what it was after.

They are OpenSSH's own client's ways, and asyncssh's where that client would need a device. Each is
tried with an unrestricted key as well: an attempt that never works proves nothing.
"""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE

import asyncssh

from headrace.devcluster.loopback import free_port
from tests.support.ssh_kit import Key, SshServer

SECONDS = 30.0
SECRET = b"only for those who are let through\n"


class Site:
    """A server, a key, and what the attempts are after: a service on its loopback, its files."""

    def __init__(self, server: SshServer, key: Key, folder: Path, service: "Service") -> None:
        self.server = server
        self.key = key
        self.folder = folder
        self.loot = folder / "loot"
        self.service = service
        self.socket = str(folder / "forwarded.sock")

    def run(
        self,
        *options: str,
        command: tuple[str, ...] = (),
        given: bytes = b"",
        environ: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``ssh`` until it ends."""
        return subprocess.run(
            self.server.client(self.key, *options, self.server.target, *command),
            input=given,
            capture_output=True,
            timeout=SECONDS,
            check=False,
            env=os.environ | (environ or {}),
        )

    @contextlib.contextmanager
    def forwarding(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run ``ssh`` without a session, for its forwardings."""
        argv = self.server.client(
            self.key, "-N", "-o", "ExitOnForwardFailure=yes", *options, self.server.target
        )
        process = subprocess.Popen(argv, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


class Service:
    """Listens on the server's loopback and on a Unix socket, and tells its secret to who comes."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "service.sock")
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._unix = socket.socket(socket.AF_UNIX)
        self._unix.bind(self.path)
        self._unix.listen()
        self.port: int = self._tcp.getsockname()[1]
        self._threads = [
            threading.Thread(target=self._serve, args=(listener,))
            for listener in (self._tcp, self._unix)
        ]
        for thread in self._threads:
            thread.start()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.sendall(SECRET)

    def close(self) -> None:
        for listener in (self._tcp, self._unix):
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in self._threads:
            thread.join()


def told(process: subprocess.Popen[bytes], connect: Callable[[], socket.socket]) -> bool:
    """Whether the secret comes out at `connect`, once that is possible while `process` runs."""
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            connection = connect()
        except OSError:
            time.sleep(0.05)
            continue
        with connection, contextlib.suppress(OSError):
            return SECRET in all_of(connection)
        return False
    return False


def all_of(connection: socket.socket) -> bytes:
    connection.settimeout(SECONDS)
    data = b""
    while more := connection.recv(4096):
        data += more
    return data


def tcp(port: int) -> Callable[[], socket.socket]:
    return lambda: socket.create_connection(("127.0.0.1", port), timeout=1)


def unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


# Commands and files


def a_shell(site: Site) -> bool:
    site.run("-T", given=f"touch {site.loot}\nexit\n".encode())
    return site.loot.exists()


def a_command(site: Site) -> bool:
    site.run(command=("touch", str(site.loot)))
    return site.loot.exists()


def a_subsystem(site: Site) -> bool:
    argv = site.server.client(site.key, "-s", site.server.target, "sftp")
    with subprocess.Popen(argv, stdin=PIPE, stdout=PIPE, stderr=DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(struct.pack(">IBI", 5, 1, 3))  # SSH_FXP_INIT, version 3
        process.stdin.flush()
        answer = process.stdout.read(5)
        process.kill()
    return answer[4:] == b"\x02"  # SSH_FXP_VERSION


def _copy(site: Site, *argv: str, given: str = "") -> bool:
    subprocess.run(argv, input=given.encode(), capture_output=True, timeout=SECONDS, check=False)
    return site.loot.exists()


def sftp(site: Site) -> bool:
    batch = site.folder / "batch"
    batch.write_text(f"put {batch} {site.loot}\n")
    begin = site.server.client(site.key, "-b", str(batch), program="sftp")
    return _copy(site, *begin, site.server.target)


def scp(site: Site) -> bool:
    source = str(site.key.private)
    begin = site.server.client(site.key, "-s", program="scp")
    return _copy(site, *begin, source, f"{site.server.target}:{site.loot}")


def scp_of_old(site: Site) -> bool:
    source = str(site.key.private)
    begin = site.server.client(site.key, "-O", program="scp")
    return _copy(site, *begin, source, f"{site.server.target}:{site.loot}")


# Forwarding


def forward_local(site: Site) -> bool:
    port = free_port()
    with site.forwarding("-L", f"{port}:127.0.0.1:{site.service.port}") as process:
        return told(process, tcp(port))


def forward_local_to_a_unix_socket(site: Site) -> bool:
    port = free_port()
    with site.forwarding("-L", f"{port}:{site.service.path}") as process:
        return told(process, tcp(port))


def forward_remote(site: Site) -> bool:
    port = free_port()
    with site.forwarding("-R", f"{port}:127.0.0.1:{site.service.port}") as process:
        return told(process, tcp(port))


def forward_remote_from_a_unix_socket(site: Site) -> bool:
    with site.forwarding("-R", f"{site.socket}:127.0.0.1:{site.service.port}") as process:
        return told(process, lambda: unix(site.socket))


def _socks(port: int, target: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    connection.sendall(b"\x05\x01\x00")
    connection.recv(2)
    connection.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + struct.pack(">H", target))
    return connection


def forward_dynamic(site: Site) -> bool:
    port = free_port()
    with site.forwarding("-D", str(port)) as process:
        return told(process, lambda: _socks(port, site.service.port))


def forward_remote_dynamic(site: Site) -> bool:
    port = free_port()
    with site.forwarding("-R", str(port)) as process:
        return told(process, lambda: _socks(port, site.service.port))


def forward_stdio(site: Site) -> bool:
    return SECRET in site.run("-W", f"127.0.0.1:{site.service.port}").stdout


async def _tunnel_device(site: Site) -> bool:
    try:
        async with asyncssh.connect(
            "127.0.0.1",
            site.server.port,
            username=site.server.user,
            client_keys=[str(site.key.private)],
            known_hosts=str(site.server.known_hosts),
            config=None,
        ) as connection:
            _, writer = await connection.open_tun()
            writer.close()
    except asyncssh.ChannelOpenError:
        return False
    return True


# What a session brings along. With the tunnel key a probe runs in the place of the gate, which
# notes what it was given; with an unrestricted key it is asked for.


def probe(folder: Path) -> Path:
    """A program that writes its environment and its terminal to ``noted`` in `folder`."""
    path = folder / "probe"
    path.write_text(f"#!/bin/sh\n(env; tty) > {folder}/noted 2>&1\n")
    path.chmod(0o755)
    return path


def _noted(site: Site, *options: str, environ: dict[str, str] | None = None) -> str:
    noted = site.folder / "noted"
    noted.unlink(missing_ok=True)
    site.run(*options, command=(str(site.folder / "probe"),), environ=environ)
    return noted.read_text() if noted.exists() else ""  # a client may give up without a session


def a_terminal(site: Site) -> bool:
    return _noted(site, "-tt").rstrip().rpartition("\n")[2].startswith("/dev/")


def the_agent(site: Site) -> bool:
    argv = ["ssh-agent", "-D", "-a", str(site.folder / "agent")]
    agent = subprocess.Popen(argv, stdout=DEVNULL, stderr=DEVNULL)
    try:
        while not (site.folder / "agent").exists():
            time.sleep(0.02)
        environ = {"SSH_AUTH_SOCK": str(site.folder / "agent")}
        return "SSH_AUTH_SOCK=" in _noted(site, "-A", environ=environ)
    finally:
        agent.kill()
        agent.wait()


def x11(site: Site) -> bool:
    return "DISPLAY=" in _noted(site, "-Y", environ={"DISPLAY": "127.0.0.1:99"})


COMMANDS = [a_shell, a_command, a_subsystem, sftp, scp, scp_of_old]
FORWARDINGS = [
    forward_local,
    forward_local_to_a_unix_socket,
    forward_remote,
    forward_remote_from_a_unix_socket,
    forward_dynamic,
    forward_remote_dynamic,
    forward_stdio,
]
COMPANIONS = [a_terminal, the_agent, x11]
tunnel_device = _tunnel_device


def without_x11() -> str | None:
    """Why X11 can't be forwarded here at all; None if it can."""
    return None if shutil.which("xauth") else "sshd forwards X11 only where xauth is installed"
