"""The cluster's SSH server in the demo: OpenSSH where it can serve us, else an embedded one."""

import os
import pwd
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from headrace.cli.setup.credentials import ssh_key, write_private

SSHD: Final = Path("/usr/sbin/sshd")
_NO_SHELLS: Final = frozenset({"nologin", "false", "true", "sync"})


def why_not_openssh() -> str:
    """Why OpenSSH's sshd can't serve this account; empty where it can."""
    if not SSHD.exists():
        return f"there is no {SSHD}"
    try:
        account = pwd.getpwuid(os.getuid())
    except KeyError:
        return "this account has no entry in the password database"
    # sshd runs the forced command through the login shell.
    if (
        Path(account.pw_shell).name in _NO_SHELLS
        or not Path(account.pw_shell or "/bin/sh").exists()
    ):
        return f"the account {account.pw_name} has no login shell"
    if _locked(account.pw_name):
        return f"the account {account.pw_name} is locked"
    return ""


def user() -> str:
    """The account that the bridge logs in as: our own."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "demo"


class SshServer(msgspec.Struct, frozen=True):
    """What to start."""

    argv: tuple[str, ...]
    what: str
    remark: str = ""
    """Why it is not OpenSSH."""


def prepare(run: Path, authorized_key: str, port: int) -> SshServer:
    """Write what the server reads into `run`."""
    host_key(run)
    write_private(run / "authorized_keys", authorized_key + "\n")
    why_not = why_not_openssh()
    if why_not:
        return SshServer(
            _embedded(run, port), "embedded", f"{why_not}: an embedded SSH server serves"
        )
    write_private(
        run / "sshd_config", config(run, port, strict=is_strict(run), version=openssh_version())
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    return SshServer((str(SSHD), "-D", "-e", "-f", str(run / "sshd_config")), "OpenSSH")


def host_key(run: Path) -> str:
    """The server's public key; made when first asked for."""
    return ssh_key(run / "host_key")


def openssh_version() -> tuple[int, int]:
    """The version of the installed sshd; (0, 0) if it doesn't tell."""
    done = subprocess.run([SSHD, "-V"], capture_output=True, text=True, check=False, timeout=10)
    match = re.search(r"OpenSSH_(\d+)\.(\d+)", done.stderr)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def config(run: Path, port: int, *, strict: bool, version: tuple[int, int]) -> str:
    """``sshd_config``: a centre that forbids TCP forwarding, and one key that may run the gate."""
    # Since 9.8 an address whose connections end badly is locked out for a while; here all come from
    # one address, and the demo is there to be broken.
    penalties = "PerSourcePenalties no\n" if version >= (9, 8) else ""
    # The gate runs through the login shell, and with a home that is empty of start-up files: a
    # person's may take longer than the bridge waits, and what they print would not be the gate's.
    return f"""\
Port {port}
ListenAddress 127.0.0.1
HostKey {run}/host_key
AuthorizedKeysFile {run}/authorized_keys
PidFile none
LogLevel INFO
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin forced-commands-only
AllowTcpForwarding no
StrictModes {"yes" if strict else "no"}
SetEnv HOME={run}
{penalties}"""


def is_strict(path: Path) -> bool:
    """Whether sshd's StrictModes would accept files in `path`: nobody else may write on the way."""
    for each in (path, *path.parents):
        about = each.stat()
        if about.st_uid not in {0, os.getuid()} or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
    return True


def gate_python() -> str:
    """An interpreter for the gate: the real file, for the path of a link into .venv can be long."""
    return os.path.realpath(sys.executable)


def _locked(name: str) -> bool:
    """Whether sshd would refuse the account as locked. Only root can see, and only root must."""
    try:
        lines = Path("/etc/shadow").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.startswith(f"{name}:!") for line in lines)


def _embedded(run: Path, port: int) -> tuple[str, ...]:
    return (
        sys.executable, "-P", "-m", "headrace.cli.demo.embedded_sshd",
        "--port", str(port),
        "--host-key", str(run / "host_key"),
        "--authorized-keys", str(run / "authorized_keys"),
    )  # fmt: skip
