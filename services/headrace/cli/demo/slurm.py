"""The demo's own Slurm: four pretended nodes on this machine, and the jobs that run there."""

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from headrace.cli.demo import probes
from headrace.cli.demo.component import Component, Probe
from headrace.devcluster import local
from headrace.devcluster.cluster import LocalSlurm
from headrace.devcluster.local import CONTROLLER, MUNGE, Daemon, LocalOptions
from headrace.runtime.lifecycle import FatalError
from headrace.slurm import client
from headrace.slurm.states import SlurmPhase

OPTIONS: Final = LocalOptions(kill_wait=3)
NODES: Final = local.node_names(OPTIONS)
PORTS: Final = (CONTROLLER, *NODES)
PROGRAMS: Final = (CONTROLLER, "slurmd", MUNGE, "sbatch", "squeue", "srun")
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CANCEL_SECONDS: Final = 8.0
"""Longer than `kill_wait`: by then Slurm has killed what did not end by itself."""


def check(path: str = PATH) -> None:
    """Raise FatalError, with what to do, where a Slurm cannot run here."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        raise FatalError(
            f"there is no {', '.join(missing)} on this machine. As root: "
            "apt-get install --no-install-recommends slurm-wlm munge"
        )
    if os.geteuid() != 0:
        raise FatalError("Slurm's daemons start jobs, which only root may do: run the demo as root")


def write(root: Path, ports: dict[str, int]) -> None:
    """Everything that the daemons read, and the end of what an earlier demo may have left."""
    LocalSlurm(root, OPTIONS).stop()
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    local.write(root, OPTIONS, [ports[name] for name in PORTS])
    key = os.open(root / "munge.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(key, "wb") as file:
        file.write(secrets.token_bytes(128))


def environ(root: Path) -> dict[str, str]:
    """What Slurm's commands need to find this Slurm."""
    return {"SLURM_CONF": str(root / "slurm.conf")}


def parts(root: Path, ports: dict[str, int]) -> list[Component]:
    """The daemons, in the order in which they end."""
    return [
        _part(
            root,
            local.controller(root, fresh=False),
            f"127.0.0.1:{ports[CONTROLLER]}",
            "Slurm's controller",
            probe=probes.listens(ports[CONTROLLER]),
            after=probes.exists(root / "munge.sock"),
        ),
        *(
            _part(
                root,
                local.node(root, name),
                f"127.0.0.1:{ports[name]}",
                f"a pretended node with {OPTIONS.gpus} pretended GPUs",
                probe=probes.listens(ports[name]),
                after=probes.listens(ports[CONTROLLER]),
            )
            for name in NODES
        ),
        _part(
            root,
            local.munge(root),
            str(root / "munge.sock"),
            "proves to Slurm who asks",
            probe=probes.exists(root / "munge.sock"),
        ),
    ]


def _part(
    root: Path,
    daemon: Daemon,
    address: str,
    what: str,
    *,
    probe: Probe,
    after: Probe | None = None,
) -> Component:
    spool = root / f"spool-{daemon.name}"
    # Where a slurmd works is how the processes of its jobs are found: see LocalSlurm.
    folder = spool if spool.exists() else root
    program = shutil.which(daemon.argv[0], path=PATH) or daemon.argv[0]
    return Component(
        name=daemon.name,
        argv=("/usr/bin/env", f"--chdir={folder}", program, *daemon.argv[1:]),
        address=address,
        what=what,
        probe=probe,
        env=environ(root),
        after=after,
    )


def plain(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """An environment without what a Slurm around the demo, or its user, says to Slurm."""
    return {
        name: value
        for name, value in given
        if not name.startswith(("SLURM", "SBATCH", "SQUEUE", "SCANCEL", "SALLOC"))
    }


async def end_jobs(root: Path) -> None:
    """Ask Slurm to end every job, and wait until it has; the rest is `kill_descendants`' job."""
    slurm = client.local(environ(root))
    deadline = time.monotonic() + CANCEL_SECONDS
    asked: set[int] = set()
    while time.monotonic() < deadline:
        found = await slurm.jobs()
        left = {job.id for job in found.jobs if job.phase is not SlurmPhase.OVER}
        if not found.trusted or not left:
            break
        if left - asked:
            await slurm.cancel(left - asked)
            asked |= left
        await asyncio.sleep(probes.EVERY_SECONDS)
