"""What a model's jobs ask of Slurm: every value checked, so that none can become anything else.

The values stand in ``#SBATCH`` lines, where blanks, quotes and line ends would start something
new; what could is refused here. The prologue alone is shell, and it is the operator's own file.
"""

import hashlib
import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from headrace.slurm import hostlist, record, times

Count = Annotated[int, Meta(ge=1, le=100_000)]

_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}", re.ASCII)
_WORDS: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+,-]{0,511}", re.ASCII)
_CONSTRAINT: Final = re.compile(r"[A-Za-z0-9_\[(][A-Za-z0-9_.&|*:\[\]()-]{0,255}", re.ASCII)
_GRES: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/,+-]{0,255}", re.ASCII)
_MEMORY: Final = re.compile(r"[0-9]{1,12}[KMGT]?", re.ASCII)
# A path that no shell and no filename pattern of sbatch could read as something else.
_PATH: Final = re.compile(r"(/[A-Za-z0-9_.+@=~-]+)+/?", re.ASCII)
_LOG: Final = re.compile(r"/([A-Za-z0-9_.+@=-]|%[0-9]{0,2}[AaJjNnstuxb]|/)+", re.ASCII)
_MODULE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/-]{0,127}", re.ASCII)
_EXTRA: Final = re.compile(r"--([a-z][a-z0-9-]{1,39})(?:=([A-Za-z0-9_.,:/@%+&|*=\[\]()-]+))?")

OWN_OPTIONS: Final = frozenset(
    {
        # written from the fields below, or needed as they are for the job to be recognised
        *("account", "chdir", "comment", "constraint", "cpus-per-task", "exclude", "gpus", "gres"),
        *("job-name", "mem", "nice", "no-requeue", "nodes", "ntasks", "open-mode", "output"),
        *("error", "partition", "qos", "requeue", "reservation", "signal", "time", "time-min"),
        # would make one submission several jobs, none, or one of somebody else
        *("array", "clusters", "gid", "input", "nodefile", "test-only", "uid", "wait", "wrap"),
        # would change which environment the job sees, or what sbatch answers
        *("export", "export-file", "get-user-env", "help", "ignore-pbs", "parsable", "quiet"),
        *("usage", "verbose", "version"),
    }
)
"""What an extra line may not say."""

SIGNAL_LIMIT: Final = 65_535
"""sbatch(1): the time before the end of `--signal` is at most this many seconds."""


class Apptainer(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A container image that the worker and its engine run in."""

    image: str
    """The absolute path of an image file or of an unpacked image."""
    binds: tuple[str, ...] = ()
    """``/path`` or ``/path:/inside`` or ``/path:/inside:ro``."""
    nv: bool = True
    """Whether NVIDIA's driver comes along."""
    program: str = "apptainer"

    def __post_init__(self) -> None:
        _check("apptainer.image", _PATH, self.image)
        for bind in self.binds:
            paths = bind.removesuffix(":ro").removesuffix(":rw").split(":")
            if len(paths) > 2:
                raise ValueError(f"apptainer.binds: must be like /a:/b:ro: {bind[:80]!r}")
            for path in paths:
                _check("apptainer.binds", _PATH, path)
        if _PATH.fullmatch(self.program) is None:
            _check("apptainer.program", _WORD, self.program)


class JobSpec(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The resources and surroundings of one job. Raises ValueError for what Slurm could misread."""

    time: str = "04:00:00"
    """The walltime: ``30`` (minutes), ``2:00:00``, ``1-12:00:00``."""
    time_min: str = ""
    """The least walltime worth having; Slurm may shorten the job to it to fill a gap."""
    account: str = ""
    partitions: tuple[str, ...] = ()
    """Tried together: the one that starts first takes the job."""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    gres: str = ""
    """Such as ``gpu:a100:2``, per node."""
    gpus: str = ""
    """Such as ``2`` or ``h100:2``, for the whole job."""
    nodes: Count = 1
    ntasks: Count = 1
    cpus_per_task: Count = 1
    mem: str = ""
    """Per node, such as ``64G``; ``0`` is all of it."""
    exclude: tuple[str, ...] = ()
    """Nodes not to use."""
    nice: Annotated[int, Meta(ge=-(2**31) + 3, le=2**31 - 3)] = 0
    requeue: bool = False
    """Whether Slurm itself queues the job again when it was preempted or its node died. By default
    not: the backlog decides whether the job is wanted again."""
    signal_seconds: Annotated[int, Meta(ge=0, le=SIGNAL_LIMIT)] = 0
    """SIGTERM for the worker so many seconds before the walltime ends. By default none: the worker
    reads the end of its walltime and drains by itself."""
    output: str = "/dev/null"
    """The log file, perhaps with sbatch's ``%j`` for the job and ``%N`` for the node."""
    chdir: str = "/"
    """Where the job starts. Not the submitter's own folder, which a node may not have."""
    extra: tuple[str, ...] = ()
    """More options of sbatch, such as ``--licenses=scratch``."""
    modules: tuple[str, ...] = ()
    """Loaded with Lmod or Environment Modules, in this order."""
    venv: str = ""
    """The absolute path of a Python environment, activated after the modules."""
    apptainer: Apptainer | None = None
    prologue: tuple[str, ...] = ()
    """Lines of shell before the worker starts, run as they are. Never from a user's request."""

    def __post_init__(self) -> None:
        for name in ("account", "qos"):
            _check(name, _WORD, getattr(self, name), optional=True)
        for partition in self.partitions:
            _check("partitions", _WORD, partition)
        _check("reservation", _WORDS, self.reservation, optional=True)
        _check("constraint", _CONSTRAINT, self.constraint, optional=True)
        _check("gres", _GRES, self.gres, optional=True)
        _check("gpus", _GRES, self.gpus, optional=True)
        _check("mem", _MEMORY, self.mem, optional=True)
        _check("output", _LOG, self.output)
        if self.chdir != "/":
            _check("chdir", _PATH, self.chdir)
        _check("venv", _PATH, self.venv, optional=True)
        for module in self.modules:
            _check("modules", _MODULE, module)
        for line in self.extra:
            _check_extra(line)
        for line in self.prologue:
            if "\n" in line or "\r" in line or "\0" in line:
                raise ValueError("prologue: one line of shell per entry")
        hostlist.join(self.exclude)
        self._check_times()

    @property
    def time_seconds(self) -> int:
        """The walltime that is asked for."""
        return times.parse_duration(self.time)

    @property
    def time_min_seconds(self) -> int:
        """The least walltime that the job may be given."""
        return times.parse_duration(self.time_min) if self.time_min else self.time_seconds

    @property
    def hash(self) -> str:
        """12 hex digits that change with any field: an older job was submitted with another spec.

        `exclude` is left out, for the scaler fills it in by what nodes have done lately.
        """
        fields: dict[str, Any] = msgspec.to_builtins(self)
        del fields["exclude"]
        text = msgspec.json.encode(fields, order="sorted")
        return hashlib.sha256(text).hexdigest()[:12]

    def _check_times(self) -> None:
        longest = self._seconds("time")
        if not times.MINUTE <= longest <= times.MAX_SECONDS:
            raise ValueError(f"time: {self.time!r} is not between a minute and a year")
        if self.time_min and not times.MINUTE <= self._seconds("time_min") <= longest:
            raise ValueError(f"time_min: {self.time_min!r} is not between a minute and {self.time}")
        if self.signal_seconds >= self.time_min_seconds:
            raise ValueError("signal_seconds: must be less than the walltime")

    def _seconds(self, field: str) -> int:
        try:
            return times.parse_duration(getattr(self, field))
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from error


def check_model(model: str) -> str:
    """`model` if it is a slug, which it must be to name jobs. Raises ValueError."""
    record.job_name(model)
    return model


def _check(field: str, pattern: re.Pattern[str], value: str, *, optional: bool = False) -> None:
    if value == "" and optional:
        return
    if pattern.fullmatch(value) is None:
        raise ValueError(f"{field}: Slurm or a shell could misread {value[:80]!r}")


def _check_extra(line: str) -> None:
    match = _EXTRA.fullmatch(line)
    if match is None:
        raise ValueError(f"extra: must be like --licenses=scratch: {line[:80]!r}")
    name = match[1]
    # sbatch takes any unique beginning of a long option for the option
    own = [option for option in OWN_OPTIONS if option == name or option.startswith(name)]
    if own:
        raise ValueError(f"extra: --{name} is not for extra lines (--{min(own)})")
