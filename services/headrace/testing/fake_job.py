"""A job and a node of the fake Slurm, as plain values that change."""

import math
import re
from typing import Final

import msgspec

from headrace.slurm import sinfo, times
from headrace.slurm.states import JobState

_OPTION: Final = re.compile(r"#SBATCH --([a-z-]+)(?:=(.*))?", re.ASCII)

DEFAULT_SECONDS: Final = times.HOUR


class FakeNode(msgspec.Struct, kw_only=True):
    """One pretended node."""

    name: str
    cpus: int
    gpus: int
    lost_at: float | None = None
    """Since when its slurmd is gone; Slurm notices only after its time-out."""
    down: bool = False
    drained: bool = False
    reason: str = ""

    @property
    def usable(self) -> bool:
        """Whether jobs may start here, as far as Slurm knows."""
        return not (self.down or self.drained)

    @property
    def state(self) -> str:
        """sinfo's word, but for how full it is."""
        if self.down:
            return "down"
        return "drained" if self.drained else "idle"


class FakeJob(msgspec.Struct, kw_only=True):
    """One pretended job."""

    id: int
    script: str
    name: str
    comment: str
    partition: str
    gpus: int
    """Per node."""
    cpus: int
    """Per node."""
    node_count: int
    time_limit: float
    requeue: bool
    exclude: tuple[str, ...]
    submitted_at: float
    eligible_at: float
    """Before this the scheduler does not look at it."""
    state: JobState = JobState.PENDING
    reason: str = "None"
    held: bool = False
    nodes: tuple[str, ...] = ()
    restarts: int = 0
    starts_at: float | None = None
    ended_at: float | None = None
    exit_code: int = 0
    grace_until: float | None = None
    """Set while it is being preempted."""
    exits_at: float | None = None
    """When its worker ends by itself, with `exit_code`, or at the latest while COMPLETING."""
    signal_seconds: int = 0
    signalled: bool = False
    becomes: JobState | None = None
    """What it will be when its processes are gone, while it is COMPLETING."""

    @property
    def ends_at(self) -> float | None:
        """The end of its walltime, where it has begun or is expected to."""
        if self.ended_at is not None:
            return self.ended_at
        return None if self.starts_at is None else self.starts_at + self.time_limit

    @property
    def running(self) -> bool:
        """Whether its worker is at work."""
        return self.state is JobState.RUNNING

    @property
    def holding(self) -> bool:
        """Whether it holds its nodes."""
        return self.state in {JobState.RUNNING, JobState.COMPLETING}

    @property
    def over(self) -> bool:
        """Whether it has ended for good."""
        return self.ended_at is not None


def read_options(script: str) -> dict[str, str]:
    """What the ``#SBATCH`` lines of a script ask for; a flag has an empty value."""
    found = {}
    for line in script.splitlines():
        match = _OPTION.fullmatch(line.strip())
        if match is not None:
            found[match[1]] = match[2] or ""
        elif line.strip() and not line.startswith("#"):
            break  # as sbatch does: from the first command on, nothing is an option
    return found


def make(job: int, script: str, now: float, delay: float, partition: str) -> FakeJob:
    """A job as its script asks for it. Raises ValueError."""
    options = read_options(script)
    nodes = int(options.get("nodes", "1"))
    total = sinfo.gpus(f"gpu:{options['gpus']}") if "gpus" in options else 0
    return FakeJob(
        id=job,
        script=script,
        name=options.get("job-name", "sbatch"),
        comment=options.get("comment", ""),
        partition=options.get("partition", partition),
        gpus=max(sinfo.gpus(options.get("gres", "")), math.ceil(total / nodes)),
        cpus=math.ceil(int(options.get("ntasks", "1")) / nodes)
        * int(options.get("cpus-per-task", "1")),
        node_count=nodes,
        time_limit=times.parse_duration(options["time"]) if "time" in options else DEFAULT_SECONDS,
        requeue="requeue" in options,
        exclude=tuple(name for name in options.get("exclude", "").split(",") if name),
        submitted_at=now,
        eligible_at=now + delay,
        signal_seconds=int(options.get("signal", "@0").partition("@")[2]),
    )
