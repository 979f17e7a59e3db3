"""What was seen, judged: functions of plain values, without any I/O."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from headrace.catalogue.loader import Catalogue
from headrace.catalogue.status import Status
from headrace.cli.doctor.finding import Finding, bad, ok, warning
from headrace.cli.operate import freshness
from headrace.cli.operate.formatting import duration
from headrace.protocol.names import Slug
from headrace.slurm.output import CommandOutput
from headrace.slurm.scontrol import Ping
from headrace.slurm.sinfo import Partitions

LOCAL_TYPES: Final = frozenset({"tmpfs", "ramfs", "overlay", "ext4", "xfs", "btrfs", "ext3"})
"""File systems of one machine, as /proc/mounts calls them."""

_UP: Final = re.compile(r'^headrace_bridge_up\{cluster="([^"]*)"\} ([0-9.]+)$', re.MULTILINE)


def leaf(hop: str, url: str, reason: str) -> Finding:
    """A connection to the leaf; `reason` is why there is none, empty where there is."""
    if not reason:
        return ok(hop, f"{url} answers and takes the key")
    if "uthorization" in reason:
        return bad(
            hop,
            f"{url} refuses the key",
            "leaf.conf must have this key's public half: copy the cluster's folder of one "
            "`headrace init` again, and restart nats-server",
        )
    return bad(hop, f"nothing answers at {url} ({reason})", "start it: nats-server -c leaf.conf")


def hub(problem: str, queue_there: bool) -> Finding:
    """The hub's JetStream, asked through the leaf; `problem` where no answer came."""
    if problem:
        return bad(
            "link to the hub",
            f"the hub's queue does not answer through the leaf ({problem})",
            "on the web machine: are nats-server -c hub.conf and headrace-bridge up, and does "
            "`headrace doctor --web DIR` there find the SSH connection up?",
        )
    if not queue_there:
        return bad(
            "link to the hub",
            "the hub answers, but holds no queue",
            "start headrace-edge on the web machine: it makes the queue",
        )
    return ok("link to the hub", "the hub's queue answers through the leaf")


def catalogue(folder: str, found: Catalogue) -> list[Finding]:
    """The files of models.d."""
    told = [
        bad("models", f"{folder}/{each}", "edit that line; `headrace models check` tests it")
        for each in found.problems
    ]
    if found.entries:
        told.append(ok("models", f"{folder}: {len(found.entries)} good"))
    elif not told:
        told.append(
            warning("models", f"{folder} holds no model", "copy an example there as NAME.toml")
        )
    return told


def commands(missing: Iterable[str]) -> Finding:
    """Slurm's programs on the PATH."""
    lost = ", ".join(missing)
    if lost:
        return bad(
            "Slurm's commands",
            f"there is no {lost} on this account's PATH",
            "run this, and the scaler, where jobs can be submitted; or put Slurm on the PATH",
        )
    return ok("Slurm's commands", "are there")


def controller(ping: Ping) -> Finding:
    """slurmctld."""
    if ping.up:
        return ok("slurmctld", f"answers on {', '.join(ping.up)}")
    return bad(
        "slurmctld",
        f"does not answer: {ping.problem}",
        "wait or ask the centre; running jobs go on, and the scaler changes nothing meanwhile",
    )


def queue(problem: str, count: int) -> Finding:
    """squeue for our account."""
    if problem:
        return bad("squeue", problem, "try `squeue --user=$USER` by hand")
    return ok("squeue", f"answers: {count} jobs of this scaler's")


def partitions(found: Partitions, wanted: Mapping[Slug, Iterable[str]]) -> list[Finding]:
    """Those that the models name, by model."""
    if found.problem:
        return [bad("partitions", f"sinfo: {found.problem}", "try `sinfo` by hand")]
    up = {each.name: each.up for each in found.partitions}
    told = []
    for model, names in wanted.items():
        for name in names:
            if name not in up:
                told.append(
                    bad("partitions", f"{model}: there is no partition {name}", "see `sinfo`")
                )
            elif not up[name]:
                told.append(
                    warning("partitions", f"{model}: {name} is down", "jobs wait there until it is")
                )
    return told or [ok("partitions", "those that the models name are up")]


def trial(model: str, output: CommandOutput) -> Finding:
    """`sbatch --test-only` with a model's script: nothing was submitted."""
    hop = f"job of {model}"
    if output.problem:
        return bad(
            hop,
            f"Slurm would refuse it: {output.problem}",
            "compare account, partition, qos, gres and time in the model's file with what this "
            "account may use (`sacctmgr show assoc user=$USER`, `sinfo`)",
        )
    said = output.stderr.strip().splitlines()
    return ok(hop, said[-1].removeprefix("sbatch: ") if said else "Slurm would take it")


def worker_command(argv: tuple[str, ...], found: bool) -> Finding:
    """The worker's program."""
    if found:
        return ok("worker", f"{argv[0]} is here; compute nodes must have it too")
    return warning(
        "worker",
        f"there is no {argv[0]} here",
        "well if modules, venv or container of a model bring it; else give its whole path in "
        "worker_command",
    )


def state(folder: str, problem: str, kind: str) -> Finding:
    """The scaler's folder: `problem` where one cannot write there; its file system's `kind`."""
    if problem:
        return bad("state", f"{folder}: {problem}", "make it, owned by the scaler's account")
    if kind in LOCAL_TYPES:
        return warning(
            "state",
            f"{folder} can be written, but lies on this machine's own {kind}",
            "compute nodes must see it at the same path (unless they are this machine): put it "
            "on a shared file system, such as your home",
        )
    return ok("state", f"{folder} can be written, and lies on {kind or 'a file system of its own'}")


def scaler(status: Status | None, holder: str, held: bool, now: float) -> list[Finding]:
    """Whether one runs: what it wrote, and who holds the lease."""
    start = "start it: headrace-scaler --config scaler.toml"
    if not held:
        return [bad("scaler", "none runs: nobody holds the lease", start)]
    if status is None:
        return [bad("scaler", f"{holder} holds the lease but has written nothing", "see its log")]
    fresh = freshness.of(status, now)
    if fresh.stale:
        return [
            bad(
                "scaler",
                f"{holder} holds the lease but has written nothing for {duration(fresh.age)}",
                "see its log; restart it: jobs go on meanwhile",
            )
        ]
    told = [ok("scaler", f"{holder} is at work; its last round was {duration(fresh.age)} ago")]
    told += [bad("scaler", each, "see its log") for each in (*status.problems, *fresh.warnings)]
    for model in status.models:
        if model.failed:
            told.append(
                bad(
                    f"model {model.model}",
                    f"was given up: {model.failed}",
                    "see the logs of its last jobs; change its file, and it is tried again",
                )
            )
    return told


def edge(url: str, alive: bool, ready: bool, reason: str) -> Finding:
    """The API."""
    if ready:
        return ok("edge", f"{url} takes requests")
    if alive:
        return bad(
            "edge",
            f"{url} lives but takes no requests: {reason}",
            "is the hub up (nats-server -c hub.conf), and its key the one in edge.toml?",
        )
    return bad(
        "edge", f"{url} does not answer ({reason})", "start it: headrace-edge --config edge.toml"
    )


def bridge(metrics: str, clusters: Iterable[str]) -> list[Finding]:
    """The SSH connections, from the bridge's metrics."""
    up = {name: float(value) > 0 for name, value in _UP.findall(metrics)}
    told = []
    for name in clusters:
        hop = f"SSH to {name}"
        if up.get(name):
            told.append(ok(hop, "is up"))
        elif name in up:
            told.append(
                bad(
                    hop,
                    "is down",
                    "the bridge's log says why: host key, account, authorized_keys, or the way",
                )
            )
        else:
            told.append(bad(hop, "the bridge does not know it", "restart it with this bridge.toml"))
    return told


def secret(hop: str, problem: str) -> Finding:
    """A file with a secret."""
    if problem:
        return bad(hop, problem, "only the daemon's account may read it; a lost one is made anew "
                   "by `headrace init --force`")  # fmt: skip
    return ok(hop, "is there, and nobody else may read it")
