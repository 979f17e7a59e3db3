"""Slurm's commands as plain values: argv, environment, standard input. Nothing runs here.

Every command gets an environment of its own. What the caller's holds of SLURM_*, SBATCH_*,
SQUEUE_* and their like would change what the same argv does; secrets in it would travel into the
job, which sbatch gives all that it has.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from headrace.slurm import hostlist

RECORD: Final = "\x1e"
FIELD: Final = "\x1f"
END: Final = "\x1d"
"""Around a row and between its fields: a comment may hold any character that one can type."""

JOB_FIELDS: Final = {
    "id": "%A",
    "array": "%i",
    "name": "%j",
    "state": "%T",
    "reason": "%r",
    "user": "%u",
    "partition": "%P",
    "qos": "%q",
    "account": "%a",
    "submitted": "%V",
    "starts": "%S",
    "ends": "%e",
    "limit": "%l",
    "nodes": "%N",
    "gres": "%b",
    "comment": "%k",
}
"""The fields of a job and the letters of squeue(1) for them. For a job that waits, %S is when Slurm
expects to start it."""

NODE_FIELDS: Final = {
    "name": "%N",
    "partition": "%R",
    "state": "%T",
    "cpus": "%c",
    "memory": "%m",
    "gres": "%G",
    "reason": "%E",
}

PARTITION_FIELDS: Final = {
    "name": "%R",
    "available": "%a",
    "limit": "%l",
    "nodes": "%F",
    "gres": "%G",
    "tier": "%p",
    "preempt": "%M",
}

_KEPT: Final = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "KRB5CCNAME", "MUNGE_SOCKET")
"""What Slurm's commands and a job's shell may need of the caller's environment."""

_PATH: Final = "/usr/local/bin:/usr/bin:/bin"

_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}", re.ASCII)
_SIGNALS: Final = frozenset({"TERM", "INT", "USR1", "USR2", "KILL", "HUP", "CONT"})
_UPDATES: Final = {
    "TimeLimit": re.compile(r"[0-9:-]{1,20}", re.ASCII),
    "Nice": re.compile(r"-?[0-9]{1,10}", re.ASCII),
    "Partition": re.compile(r"[A-Za-z0-9_.@+,-]{1,512}", re.ASCII),
    "ExcNodeList": re.compile(r"[A-Za-z0-9._,-]{1,4096}", re.ASCII),
    "Requeue": re.compile(r"[01]", re.ASCII),
}

MAX_IDS: Final = 200
"""Jobs per scancel: the length of a command line has an end."""


class Command(msgspec.Struct, frozen=True):
    """One run of one program."""

    argv: tuple[str, ...]
    env: dict[str, str]
    stdin: str = ""

    @property
    def name(self) -> str:
        """The program, for logs."""
        return self.argv[0]


class Commands:
    """Slurm's commands for one cluster.

    `environ` is the caller's own; of SLURM_* only SLURM_CONF is kept, the one that says which
    cluster. `extra` is the operator's, for what his site needs.
    """

    def __init__(
        self, environ: Mapping[str, str], user: str, extra: Mapping[str, str] | None = None
    ) -> None:
        if _USER.fullmatch(user) is None:
            raise ValueError(f"not an account's name: {user[:80]!r}")
        self._user = user
        kept = {name: environ[name] for name in (*_KEPT, "SLURM_CONF") if name in environ}
        self._job_env = {"PATH": environ.get("PATH") or _PATH, **kept, **(extra or {})}
        # What we read is in plain words, and times are Unix seconds; a Slurm that can't do those
        # tells them in UTC.
        self._env = {**self._job_env, "LC_ALL": "C", "TZ": "UTC0", "SLURM_TIME_FORMAT": "%s"}

    def sbatch(self, script: str) -> Command:
        """Submit a script. Its job gets this command's environment, so not the one for reading."""
        return Command(("sbatch", "--parsable"), self._job_env, script)

    def squeue(self) -> Command:
        """All jobs of our account, also those that ended lately: one call for all models.

        Not ``--json``: before 23.02 that ignores the filter and tells every job of the cluster.
        """
        return self._squeue("--states=all")

    def squeue_start(self) -> Command:
        """Our jobs that wait, and when Slurm expects to start them."""
        return self._squeue("--start")

    def squeue_json(self) -> Command:
        """The same as `squeue` for 23.02 and later, as JSON."""
        return self._read("squeue", "--all", "--states=all", f"--user={self._user}", "--json")

    def squeue_version(self) -> Command:
        """Which Slurm this is; asks no daemon."""
        return self._read("squeue", "--version")

    def scancel(self, ids: Iterable[int]) -> Command:
        """End jobs: SIGTERM for all their processes, SIGKILL after Slurm's KillWait."""
        return self._read("scancel", *_ids(ids))

    def scancel_pending(self, ids: Iterable[int]) -> Command:
        """End jobs that still wait. One that has started meanwhile goes on."""
        return self._read("scancel", "--state=PENDING", *_ids(ids))

    def signal(self, ids: Iterable[int], name: str = "TERM", *, batch: bool = False) -> Command:
        """Send a signal to the steps of running jobs, or with `batch` to their batch shells alone.

        SIGTERM makes workers drain. A job that waits would be signalled as soon as it has started;
        it is left as it is.
        """
        if name not in _SIGNALS:
            raise ValueError(f"not a signal for jobs: {name[:20]!r}")
        to = ("--batch",) if batch else ()
        return self._read("scancel", "--state=RUNNING", f"--signal={name}", *to, *_ids(ids))

    def sinfo_nodes(self) -> Command:
        """Every node, once per partition."""
        return self._read("sinfo", "--all", "--Node", f"--format={row(NODE_FIELDS)}")

    def sinfo_partitions(self) -> Command:
        """Every partition, once per kind of node in it."""
        return self._read("sinfo", "--all", f"--format={row(PARTITION_FIELDS)}")

    def ping(self) -> Command:
        """Whether a controller answers."""
        return self._read("scontrol", "ping")

    def show_job(self, job: int) -> Command:
        """All that the controller knows of one job."""
        return self._read("scontrol", "--oneliner", "show", "job", *_ids([job]))

    def requeue(self, job: int) -> Command:
        """Put a running job back into the queue."""
        return self._read("scontrol", "requeue", *_ids([job]))

    def hold(self, job: int) -> Command:
        """Keep a job that waits from starting."""
        return self._read("scontrol", "hold", *_ids([job]))

    def release(self, job: int) -> Command:
        """Let a held job start."""
        return self._read("scontrol", "release", *_ids([job]))

    def update(self, job: int, **changes: str) -> Command:
        """Change a job: `TimeLimit`, `Nice`, `Partition`, `ExcNodeList` or `Requeue`."""
        words = []
        for name, value in changes.items():
            if name not in _UPDATES or _UPDATES[name].fullmatch(value) is None:
                raise ValueError(f"not a change of a job: {name[:40]}={value[:40]!r}")
            words.append(f"{name}={value}")
        return self._read("scontrol", "update", f"JobId={_ids([job])[0]}", *words)

    def exclude(self, job: int, nodes: Iterable[str]) -> Command:
        """Keep a job that waits away from nodes."""
        return self.update(job, ExcNodeList=hostlist.join(nodes))

    def _squeue(self, *more: str) -> Command:
        fixed = ("squeue", "--all", f"--user={self._user}", f"--format={row(JOB_FIELDS)}")
        return self._read(*fixed, *more)

    def _read(self, *argv: str) -> Command:
        return Command(argv, self._env)


def row(fields: Mapping[str, str]) -> str:
    """The format of a row with `fields`, for squeue and sinfo."""
    return RECORD + FIELD.join(fields.values()) + END


def _ids(ids: Iterable[int]) -> list[str]:
    words = [str(job) for job in ids if job > 0]
    if not 1 <= len(words) <= MAX_IDS:
        raise ValueError(f"1 to {MAX_IDS} job ids, not {len(words)}")
    return words
