"""The reference's way on this machine: a real sshd, a kept connection per engine, and the front.

Each engine has a key of its own, whose forced command runs curl against that engine, so that no
command line depends on a request.
"""

import getpass
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from headrace.cli.demo import probes, ssh_server
from headrace.cli.setup.credentials import ssh_key, write_private
from headrace.devcluster.loopback import free_port
from loadtests.bench.parts import NotServing, Running

SESSIONS: Final = 4096
"""OpenSSH's default of 10 sessions on a connection would be the limit, and none of its own."""


@asynccontextmanager
async def running(engines: Mapping[str, int]) -> AsyncIterator[tuple[str, dict[str, int]]]:
    """Serve engines, given by name and port; yields the front's URL and the processes by name.

    A request for an engine goes to ``URL/NAME/v1/...``. Raises NotServing.
    """
    if why_not := ssh_server.why_not_openssh():
        raise NotServing(why_not)
    for program in ("ssh", "curl"):
        if shutil.which(program) is None:
            raise NotServing(f"there is no {program}")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hr-ssh-")))
        ssh_port, http_port = free_port(), free_port()
        lines = [
            f'restrict,command="{_curl(port)}" {ssh_key(folder / name)}'
            for name, port in engines.items()
        ]
        server = ssh_server.prepare(folder, "\n".join(lines), ssh_port)
        config = folder / "sshd_config"
        write_private(config, config.read_text() + f"MaxSessions {SESSIONS}\n")
        started: dict[str, Running] = {}

        def start(name: str, *argv: str) -> Running:
            made = started[name] = Running(name, argv, {}, folder / f"{name}.log")
            stack.push_async_callback(made.end)
            return made

        await start("sshd", *server.argv).ready(probes.listens(ssh_port))
        known = folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{ssh_port} {ssh_server.host_key(folder)}\n")
        for name in engines:
            socket = folder / f"{name}.control"
            master = start(f"ssh-{name}", *_master(folder / name, socket, known, ssh_port))
            await master.ready(probes.exists(socket))
        sockets = [f"--engine={name}={folder / name}.control" for name in engines]
        argv = [sys.executable, "-m", "loadtests.bench.ssh_front", "--port", str(http_port)]
        await start("front", *argv, *sockets).ready(probes.listens(http_port))
        pids = {name: each.pid for name, each in started.items()}
        yield f"http://127.0.0.1:{http_port}", pids


def _curl(port: int) -> str:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    return f"curl -qsSN -H 'content-type: application/json' --data-binary @- {url}"


def _master(key: Path, socket: Path, known: Path, port: int) -> list[str]:
    return [
        "ssh", "-F", "none", "-N", "-M", "-S", str(socket), "-i", str(key), "-p", str(port),
        "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes",
        "-o", "ServerAliveInterval=5", f"{getpass.getuser()}@127.0.0.1",
    ]  # fmt: skip
