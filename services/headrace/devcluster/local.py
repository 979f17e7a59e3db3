"""A Slurm of one machine's own for development: its files and the commands of its daemons.

Pretended nodes with pretended GPUs, two partitions over the same nodes of which one preempts the
other, and a munge of its own, so that several run side by side and the machine's own Slurm, if
there is one, is never touched. `headrace.devcluster.cluster` starts what this file describes.
"""

import getpass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

LOW: Final = "low"
"""The partition whose jobs make way: where Headrace's own jobs belong."""

HIGH: Final = "high"
"""The partition whose jobs push those of `LOW` aside."""

CONTROLLER: Final = "slurmctld"
MUNGE: Final = "munged"

_MUNGE_SOCKET: Final = "munge.sock"
_SOCKET_PATH_BYTES: Final = 107
"""What sun_path holds, see unix(7)."""


class LocalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the pretended cluster looks like."""

    nodes: Annotated[int, Meta(ge=1, le=64)] = 4
    cpus: Annotated[int, Meta(ge=1)] = 8
    memory_mb: Annotated[int, Meta(ge=1)] = 4000
    gpus: Annotated[int, Meta(ge=1, le=16)] = 4
    preempt: Literal["CANCEL", "REQUEUE"] = "REQUEUE"
    """What happens to a job of `LOW` after its grace time. One with --no-requeue ends anyway."""
    grace_seconds: Annotated[int, Meta(ge=0)] = 20
    """How long before, its job steps are told with SIGTERM."""
    kill_wait: Annotated[int, Meta(ge=1)] = 5
    """Seconds between SIGTERM and SIGKILL at the end of a walltime and of a cancelled job."""
    node_timeout: Annotated[int, Meta(ge=5)] = 10
    """Seconds after which a node that does not answer is DOWN."""
    min_job_age: Annotated[int, Meta(ge=2)] = 300
    """How long a job that is over can still be seen."""
    extra: tuple[str, ...] = ()
    """More lines for slurm.conf."""


class Daemon(msgspec.Struct, frozen=True):
    """A daemon to run in the foreground."""

    name: str
    argv: tuple[str, ...]


def node_names(options: LocalOptions) -> tuple[str, ...]:
    """``gpu1``, ``gpu2``, …"""
    return tuple(f"gpu{number}" for number in range(1, options.nodes + 1))


def write(root: Path, options: LocalOptions, ports: list[int]) -> None:
    """Put everything that the daemons read into `root`, an absolute path.

    `ports` are for the controller and then for each node. Raises ValueError.
    """
    if len(str(root / _MUNGE_SOCKET).encode()) > _SOCKET_PATH_BYTES:
        raise ValueError(f"too long a path for munge's socket: {root}")
    if any(char.isspace() or char in "#,%[]\"'\\" for char in str(root)):
        raise ValueError(f"slurm.conf cannot hold this path: {root}")
    for name in ("state", "log", *(f"spool-{node}" for node in node_names(options))):
        (root / name).mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)  # other accounts may submit too
    for number in range(options.gpus):
        (root / f"nvidia{number}").touch()
    (root / "slurm.conf").write_text(slurm_conf(root, options, ports), encoding="utf-8")
    gres = (
        f"NodeName={node} Name=gpu File={root}/nvidia{number}\n"
        for node in node_names(options)
        for number in range(options.gpus)
    )
    (root / "gres.conf").write_text("".join(gres), encoding="utf-8")


def slurm_conf(root: Path, options: LocalOptions, ports: list[int]) -> str:
    """The text of slurm.conf: no cgroups, no accounting, nothing outside `root`."""
    user = getpass.getuser()
    controller, *node_ports = ports
    nodes = node_names(options)
    if len(node_ports) != len(nodes):
        raise ValueError(f"{len(nodes)} nodes and a controller need {len(nodes) + 1} ports")
    grace = options.grace_seconds
    partition = "Nodes=ALL State=UP MaxTime=INFINITE DefaultTime=60"
    lines = [
        "ClusterName=local",
        "SlurmctldHost=localhost(127.0.0.1)",
        f"SlurmctldPort={controller}",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        f"AuthInfo=socket={root}/{_MUNGE_SOCKET}",
        f"StateSaveLocation={root}/state",
        f"SlurmdSpoolDir={root}/spool-%n",
        f"SlurmctldPidFile={root}/slurmctld.pid",
        f"SlurmdPidFile={root}/slurmd-%n.pid",
        # Daemons in the foreground log to stderr; that is enough.
        "SlurmctldSyslogDebug=quiet",
        "SlurmdSyslogDebug=quiet",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "MpiDefault=none",
        "SwitchType=switch/none",
        "MailProg=/bin/true",
        "SlurmdParameters=config_overrides",
        "GresTypes=gpu",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "SchedulerType=sched/backfill",
        # Look again every two seconds: whoever waits here is a developer or a test.
        "SchedulerParameters=bf_interval=2,batch_sched_delay=0,sched_interval=2",
        "PreemptType=preempt/partition_prio",
        f"PreemptMode={options.preempt}",
        "JobRequeue=1",
        "ReturnToService=2",
        f"KillWait={options.kill_wait}",
        f"SlurmdTimeout={options.node_timeout}",
        f"MinJobAge={options.min_job_age}",
        *(
            f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port}"
            f" CPUs={options.cpus} RealMemory={options.memory_mb} Gres=gpu:{options.gpus}"
            for node, port in zip(nodes, node_ports, strict=True)
        ),
        f"PartitionName={LOW} {partition} Default=YES PriorityTier=1 GraceTime={grace}",
        f"PartitionName={HIGH} {partition} PriorityTier=10 PreemptMode=OFF",
        *options.extra,
    ]
    return "\n".join(lines) + "\n"


def munge(root: Path) -> Daemon:
    """The munge of this Slurm alone, with a key of its own."""
    return Daemon(
        MUNGE,
        (
            MUNGE,
            "--foreground",
            "--force",  # the folder above may be private, as a test's is
            f"--socket={root}/{_MUNGE_SOCKET}",
            f"--key-file={root}/munge.key",
            f"--pid-file={root}/munged.pid",
            f"--seed-file={root}/munge.seed",
            f"--log-file={root}/log/munged.log",
            "--num-threads=2",
        ),
    )


def controller(root: Path, *, fresh: bool) -> Daemon:
    """slurmctld; `fresh` forgets the jobs of an earlier run."""
    return Daemon(
        CONTROLLER, (CONTROLLER, "-D", "-f", f"{root}/slurm.conf", *(("-c",) if fresh else ()))
    )


def node(root: Path, name: str) -> Daemon:
    """The slurmd of one pretended node."""
    return Daemon(name, ("slurmd", "-D", "-f", f"{root}/slurm.conf", "-N", name))
