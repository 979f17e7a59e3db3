"""What scontrol says: one job in full, whether a controller answers, whether a change was made."""

import re
from typing import Final

import msgspec

from headrace.slurm import hostlist, record, states, times
from headrace.slurm.output import CommandOutput
from headrace.slurm.squeue import SlurmJob

_KEY: Final = re.compile(r"(?:^|\s)([A-Za-z][A-Za-z/:]*)=", re.ASCII)
_PING: Final = re.compile(r"Slurmctld\((\w+)[^)]*\) at (\S+) is (UP|DOWN)", re.ASCII)


class Change(msgspec.Struct, frozen=True):
    """What has become of a wish to change or end jobs."""

    problem: str = ""
    """Why it was not granted; empty where it was."""


class Ping(msgspec.Struct, frozen=True):
    """Which controllers answer."""

    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    problem: str = ""


class JobDetail(msgspec.Struct, frozen=True):
    """A job and more of it than squeue tells; `job` is None where it is not known."""

    job: SlurmJob | None = None
    exit_code: int = 0
    exit_signal: int = 0
    restarts: int = 0
    requeue: bool = False
    fields: dict[str, str] = {}
    """Every field as it was told."""
    problem: str = ""


def parse_change(output: CommandOutput) -> Change:
    """The answer of scancel and of scontrol's requeue, hold, release and update.

    A job that is gone already is no problem for whoever wanted it gone: see `is_gone`.
    """
    return Change(output.problem)


def is_gone(problem: str) -> bool:
    """Whether Slurm says that there is no such job, or that it is over."""
    words = problem.lower()
    return "invalid job id" in words or "already completing or completed" in words


def parse_ping(output: CommandOutput) -> Ping:
    """The answer of `Commands.ping`."""
    found = _PING.findall(output.stdout)
    up = tuple(host for _, host, state in found if state == "UP")
    down = tuple(host for _, host, state in found if state == "DOWN")
    if up:
        return Ping(up, down)
    return Ping(up, down, output.problem or "no controller is up")


def parse_job(output: CommandOutput) -> JobDetail:
    """The answer of `Commands.show_job`."""
    if output.problem:
        return JobDetail(problem=output.problem)
    fields = _fields(output.stdout)
    try:
        job = _job(fields)
    except (KeyError, ValueError) as error:
        return JobDetail(fields=fields, problem=f"not a job's description: {error}")
    code, _, number = fields.get("ExitCode", "0:0").partition(":")
    return JobDetail(
        job=job,
        exit_code=_number(code),
        exit_signal=_number(number),
        restarts=_number(fields.get("Restarts", "0")),
        requeue=fields.get("Requeue") == "1",
        fields=fields,
    )


def _fields(text: str) -> dict[str, str]:
    """``Key=value`` pairs, the first of each name: a comment can repeat one, but comes late."""
    fields: dict[str, str] = {}
    keys = list(_KEY.finditer(text))
    for index, key in enumerate(keys):
        end = keys[index + 1].start() if index + 1 < len(keys) else len(text)
        fields.setdefault(key[1], text[key.end() : end].strip())
    return fields


def _job(fields: dict[str, str]) -> SlurmJob:
    def text(name: str) -> str:
        value = fields.get(name, "")
        return "" if value in {"(null)", "N/A", "None"} else value

    return SlurmJob(
        id=int(fields["JobId"][:20]),
        name=text("JobName"),
        state=states.parse(fields["JobState"]),
        reason=text("Reason"),
        user=text("UserId").partition("(")[0],
        partition=text("Partition"),
        qos=text("QOS"),
        account=text("Account"),
        submitted_at=times.when(text("SubmitTime")),
        starts_at=times.when(text("StartTime")),
        ends_at=times.when(text("EndTime")),
        time_limit=times.limit(text("TimeLimit")),
        nodes=hostlist.expand_or_none(text("NodeList")),
        gres=text("TresPerNode"),
        record=record.parse(text("Comment")),
        restarts=_number(fields.get("Restarts", "0")),
    )


def _number(text: str) -> int:
    return int(text[:10]) if text.isascii() and text.isdigit() else 0
