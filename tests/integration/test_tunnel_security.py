"""With the tunnel key one reaches the gate's pipe, and nothing else (invariant 5).

Each attempt is made against OpenSSH with everything allowed, where the key's line alone stands in
the way, against OpenSSH with everything off, and against the embedded server.
"""

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.gate.script import authorized_key
from tests.support import tunnel_attacks
from tests.support.edge_kit import until
from tests.support.ssh_kit import PERMISSIVE, OpenSsh, SshServer, StartSsh, new_key, starter
from tests.support.tunnel_attacks import COMMANDS, COMPANIONS, FORWARDINGS, Service, Site
from tests.support.tunnel_kit import Tunnel

pytestmark = pytest.mark.openssh

Attempt = Callable[[Site], bool]


@contextlib.contextmanager
def running(server: SshServer) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.close()


class Leaf:
    """What the gate leads to here: it notes what it is told, and hangs up."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(20)
                self.heard.append(connection.recv(4096))

    def told(self) -> list[bytes]:
        """What it has heard, once that is something: ssh may end before it has been read here."""
        until(lambda: bool(self.heard), 20)
        return self.heard

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def leaf() -> Iterator[Leaf]:
    leaf = Leaf()
    yield leaf
    leaf.close()


@pytest.fixture
def site(tmp_path: Path, start_ssh: StartSsh, leaf: Leaf, service: Service) -> Site:
    """The tunnel key and its gate."""
    tunnel = Tunnel(tmp_path, start_ssh, gate_port=leaf.port)
    return Site(tunnel.ssh, tunnel.key, tmp_path, service)


@pytest.fixture
def probed(tmp_path: Path, start_ssh: StartSsh, service: Service) -> Site:
    """The tunnel key, whose forced command tells what it was given."""
    key = new_key(tmp_path / "key")
    line = authorized_key(str(tunnel_attacks.probe(tmp_path)), key.public)
    return Site(start_ssh(tmp_path / "ssh", line), key, tmp_path, service)


@pytest.fixture
def open_site(tmp_path: Path, service: Service) -> Iterator[Site]:
    """A key that may do all that the server allows, and the server allows everything."""
    key = new_key(tmp_path / "key")
    tunnel_attacks.probe(tmp_path)
    with starter(lambda *lines: OpenSsh(*lines, settings=PERMISSIVE)) as start:
        yield Site(start(tmp_path / "ssh", key.public), key, tmp_path, service)


@pytest.mark.parametrize("attempt", [*COMMANDS, *FORWARDINGS])
def test_the_tunnel_key_gets_nothing(site: Site, attempt: Attempt) -> None:
    assert not attempt(site)


@pytest.mark.parametrize("attempt", COMPANIONS)
def test_the_gate_is_given_nothing(probed: Site, attempt: Attempt) -> None:
    assert not attempt(probed)


@pytest.mark.parametrize("attempt", [*COMMANDS, *FORWARDINGS, *COMPANIONS])
def test_an_attempt_would_work_with_another_key(open_site: Site, attempt: Attempt) -> None:
    if attempt is tunnel_attacks.x11 and (reason := tunnel_attacks.without_x11()):
        pytest.skip(reason)
    assert attempt(open_site)


@pytest.mark.parametrize(
    "asked", [(), ("touch", "{loot}"), ("-s", "sftp")], ids=["shell", "command", "subsystem"]
)
def test_whatever_is_asked_for_is_the_gate(site: Site, leaf: Leaf, asked: tuple[str, ...]) -> None:
    options = [part for part in asked if part.startswith("-")]
    command = tuple(part.format(loot=site.loot) for part in asked if not part.startswith("-"))
    words = f"touch {site.loot}\n".encode()
    site.run(*options, command=command, given=words)
    # A server that has no such subsystem runs nothing at all.
    assert leaf.heard in ([], [words]) if "-s" in asked else leaf.told() == [words]
    assert not site.loot.exists()


# The environment


def test_variables_change_nothing_about_the_gate(site: Site, leaf: Leaf) -> None:
    (site.folder / "socket.py").write_text(f"open({str(site.loot)!r}, 'w')")
    variables = {
        "SSH_ORIGINAL_COMMAND": f"touch {site.loot}",
        "PYTHONPATH": str(site.folder),
        "PYTHONINSPECT": "1",
        "PYTHONSTARTUP": str(site.folder / "socket.py"),
        "HOME": str(site.folder),
        "PATH": str(site.folder),
    }
    setting = " ".join(f"{name}='{value}'" for name, value in variables.items())
    site.run("-o", f"SetEnv={setting}", given=b"words")
    assert leaf.told() == [b"words"]
    assert not site.loot.exists()


def shell_runs_a_variable(site: Site) -> bool:
    """bash runs what BASH_ENV says before the command that it was started for."""
    site.run("-o", f"SetEnv=BASH_ENV='$(touch {site.loot})'", given=b"words")
    return site.loot.exists()


@pytest.fixture
def common_site(tmp_path: Path, leaf: Leaf, service: Service) -> Iterator[Site]:
    """As `site`, with what distributions let clients set."""
    settings = PERMISSIVE.replace("AcceptEnv *", "AcceptEnv LANG LC_*")
    with starter(lambda *lines: OpenSsh(*lines, settings=settings)) as start:
        tunnel = Tunnel(tmp_path, start, gate_port=leaf.port)
        yield Site(tunnel.ssh, tunnel.key, tmp_path, service)


def test_no_variable_reaches_the_accounts_shell(common_site: Site) -> None:
    assert not shell_runs_a_variable(common_site)


@pytest.fixture
def reckless_site(tmp_path: Path, leaf: Leaf, service: Service) -> Iterator[Site]:
    """As `site`, with ``AcceptEnv *``."""
    with starter(lambda *lines: OpenSsh(*lines, settings=PERMISSIVE)) as start:
        tunnel = Tunnel(tmp_path, start, gate_port=leaf.port)
        yield Site(tunnel.ssh, tunnel.key, tmp_path, service)


@pytest.mark.skipif("bash" not in os.environ.get("SHELL", "bash"), reason="the shell is not bash")
def test_a_server_that_accepts_every_variable_undoes_any_forced_command(
    reckless_site: Site,
) -> None:
    # Not a promise but a warning, and the reason why the guide tells to look at AcceptEnv: no line
    # of authorized_keys can prevent it.
    assert shell_runs_a_variable(reckless_site)


# What depends on the account


class ForAccount(OpenSsh):
    """OpenSSH for an account that only this server knows, with a home and a shell of its own."""

    def __init__(self, folder: Path, *lines: str, uid: int) -> None:
        super().__init__(folder, *lines, settings=PERMISSIVE)
        self.user = "tunnel"
        self.home = folder / "home"
        (self.home / ".ssh").mkdir(parents=True)
        self.passwd = folder / "passwd"
        own = f"{self.user}:x:{uid}:{uid}::{self.home}:/bin/sh\n"
        self.passwd.write_text(own + Path("/etc/passwd").read_text())

    def argv(self) -> list[str]:
        script = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh", str(self.passwd), *super().argv()]


def may_unshare() -> bool:
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return os.geteuid() == 0 and done.returncode == 0


needs_accounts = pytest.mark.skipif(
    not may_unshare(), reason="an account of its own needs root and a mount namespace"
)


def try_account(folder: Path, service: Service, *, restricted: bool, uid: int) -> Site:
    """A site with an account of its own, whose forced command is the probe if `restricted`."""
    key = new_key(folder / "key")
    program = str(tunnel_attacks.probe(folder))
    line = authorized_key(program, key.public) if restricted else key.public
    return Site(ForAccount(folder / "ssh", line, uid=uid), key, folder, service)


@needs_accounts
@pytest.mark.parametrize("restricted", [True, False])
def test_no_rc_file_runs_before_the_gate(
    tmp_path: Path, service: Service, restricted: bool
) -> None:
    site = try_account(tmp_path, service, restricted=restricted, uid=0)
    (tmp_path / "ssh/home/.ssh/rc").write_text(f"touch {site.loot}\n")
    with running(site.server):
        site.run(command=(str(tmp_path / "probe"),))
    assert (tmp_path / "noted").exists()
    assert site.loot.exists() is not restricted


@pytest.mark.parametrize("ssh_kind", ["locked", "embedded"], indirect=True)
async def test_the_tunnel_key_gets_no_network_device(site: Site) -> None:
    assert not await tunnel_attacks.tunnel_device(site)


@pytest.fixture
def common_path() -> Iterator[Path]:
    """A folder that other accounts can enter, as those of pytest's are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@needs_accounts
async def test_an_ordinary_account_gets_no_network_device(
    common_path: Path, service: Service
) -> None:
    site = try_account(common_path, service, restricted=True, uid=65533)
    with running(site.server):
        assert not await tunnel_attacks.tunnel_device(site)


@needs_accounts
async def test_a_server_that_permits_tunnels_gives_root_a_network_device(
    tmp_path: Path, service: Service
) -> None:
    # Not a promise but a warning, and what shows that the attempt can work: `restrict` does not
    # speak of PermitTunnel, which is off by default.
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/net/tun")
    site = try_account(tmp_path, service, restricted=True, uid=0)
    with running(site.server):
        assert await tunnel_attacks.tunnel_device(site)


def test_the_line_without_restrict_would_not_be_enough(tmp_path: Path, service: Service) -> None:
    key = new_key(tmp_path / "key")
    forced = f'command="{tunnel_attacks.probe(tmp_path)}" {key.public}'
    with starter(lambda *lines: OpenSsh(*lines, settings=PERMISSIVE)) as start:
        site = Site(start(tmp_path / "ssh", forced), key, tmp_path, service)
        assert not tunnel_attacks.a_command(site)
        assert tunnel_attacks.forward_local(site)
