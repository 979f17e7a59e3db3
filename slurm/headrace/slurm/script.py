"""The batch script of a job: what `sbatch` reads on its standard input.

The worker is a job step (`srun`), for at preemption only job steps are told early. The script's
first part is Slurm's, the second the site's surroundings, the last our worker and its exit code.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from headrace.slurm import hostlist, record, times
from headrace.slurm.record import Record
from headrace.slurm.spec import JobSpec

MAX_BYTES: Final = 256 * 1024
"""Far below Slurm's own limit (max_script_size, 4 MiB)."""

_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,127}", re.ASCII)

_HEAD: Final = """\
# Written by Headrace. The exit code of the worker is that of the job.
# Slurm signals everything in a job that it ends: this shell stays to tell the worker's exit code.
trap : TERM"""

# The first of these files that is there defines `module`: a batch shell is no login shell and has
# not read it, unless BASH_ENV says so.
_MODULES_INIT: Final = """\
if ! type module >/dev/null 2>&1; then
  for file in "${LMOD_PKG:-/none}/init/bash" "${MODULESHOME:-/none}/init/bash" \\
    /etc/profile.d/z00_lmod.sh /etc/profile.d/lmod.sh /etc/profile.d/modules.sh; do
    if [ -r "$file" ]; then . "$file"; break; fi
  done
fi"""

# squeue first: 22.05 has no SLURM_JOB_END_TIME, and what later ones put there may be too early. The
# backfill scheduler starts a job with its --time-min and only then raises its limit.
_ENDS_AT: Final = """\
ask=(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%e)
ends_at=$(SLURM_TIME_FORMAT=%s timeout 60 "${ask[@]}") || ends_at=
[[ $ends_at =~ ^[0-9]+$ ]] || ends_at=${SLURM_JOB_END_TIME:-}
if [[ $ends_at =~ ^[0-9]+$ ]]; then export HEADRACE_WORKER__ENDS_AT=$ends_at; fi"""


def render(
    spec: JobSpec, command: Sequence[str], job: Record, environ: Mapping[str, str] | None = None
) -> str:
    """The script that runs `command` for the model and submission of `job`.

    `command` is an argv, handed on word by word. `environ` is added to the worker's environment;
    its values are in the script, which everybody on the cluster may be able to read: no secrets.
    Raises ValueError.
    """
    if not command or not all(command):
        raise ValueError("the worker's command must be an argv without empty words")
    sections = [
        "#!/bin/bash",
        "\n".join(f"#SBATCH {option}" for option in options(spec, job)),
        _HEAD,
        _surroundings(spec),
        "set -euo pipefail",
        _exports(job, environ or {}),
        _ENDS_AT,
        "code=0\n" + shlex.join(step(spec, command)) + ' || code=$?\nexit "$code"',
    ]
    text = "\n\n".join(section for section in sections if section) + "\n"
    if "\0" in text or "\r" in text:
        raise ValueError("a batch script holds no NUL and no carriage return")
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(f"the batch script is larger than {MAX_BYTES} bytes")
    return text


def options(spec: JobSpec, job: Record) -> list[str]:
    """What stands after ``#SBATCH``, one option a line."""
    named = {
        "job-name": record.job_name(job.model),
        "comment": record.comment(job),
        "account": spec.account,
        "partition": ",".join(spec.partitions),
        "qos": spec.qos,
        "reservation": spec.reservation,
        "constraint": spec.constraint,
        "exclude": hostlist.join(spec.exclude),
        "nodes": str(spec.nodes),
        "ntasks": str(spec.ntasks),
        "cpus-per-task": str(spec.cpus_per_task),
        "gres": spec.gres,
        "gpus": spec.gpus,
        "mem": spec.mem,
        "time": times.format_duration(spec.time_seconds),
        "time-min": times.format_duration(spec.time_min_seconds) if spec.time_min else "",
        "nice": str(spec.nice) if spec.nice else "",
        # To the steps, and so to the worker: with B: it would go to this shell alone.
        "signal": f"TERM@{spec.signal_seconds}" if spec.signal_seconds else "",
        "chdir": spec.chdir,
        "output": spec.output,
        # A job that runs again must not wipe out the log of what went wrong before.
        "open-mode": "append",
    }
    lines = [f"--{name}={value}" for name, value in named.items() if value]
    lines.append("--requeue" if spec.requeue else "--no-requeue")
    return [*lines, *spec.extra]


def step(spec: JobSpec, command: Sequence[str]) -> list[str]:
    """The argv that runs the worker as one task of one job step, perhaps in a container."""
    argv = ["srun", "--nodes=1", "--ntasks=1", "--kill-on-bad-exit=1", "--export=ALL"]
    # From 22.05 on srun does not take this over from the job.
    argv += [f"--cpus-per-task={spec.cpus_per_task}", "--"]
    image = spec.apptainer
    if image is not None:
        argv += [image.program, "exec"]
        argv += ["--nv"] if image.nv else []
        argv += [word for bind in image.binds for word in ("--bind", bind)]
        argv.append(image.image)
    return [*argv, *command]


def _surroundings(spec: JobSpec) -> str:
    """Modules, environment and the site's own lines.

    Without `set -eu`: Lmod and `activate` use what may be unset and return what is not zero.
    """
    parts = []
    if spec.modules:
        parts.append(_MODULES_INIT)
        loads = " ".join(shlex.quote(module) for module in spec.modules)
        parts.append(f"module load {loads} || exit 1")
    if spec.venv:
        activate = shlex.quote(f"{spec.venv.rstrip('/')}/bin/activate")
        parts.append(f". {activate} || exit 1")
    parts += spec.prologue
    return "\n".join(parts)


def _exports(job: Record, environ: Mapping[str, str]) -> str:
    own = {
        "HEADRACE_INSTALLATION": job.installation,
        "HEADRACE_CLUSTER": job.cluster,
        "HEADRACE_MODEL": job.model,
        "HEADRACE_SUBMISSION": job.submission,
    }
    for name in environ:
        if _VARIABLE.fullmatch(name) is None or name.startswith(("SLURM", "SBATCH_", "LD_")):
            raise ValueError(f"not a variable for a worker: {name[:80]!r}")
    return "\n".join(
        f"export {name}={shlex.quote(value)}" for name, value in {**own, **environ}.items()
    )
