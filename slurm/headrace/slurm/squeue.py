"""What squeue says: our jobs, where they stand, when they start and end."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from headrace.slurm import hostlist, jsonform, record, states, times
from headrace.slurm.commands import JOB_FIELDS
from headrace.slurm.output import CommandOutput, table
from headrace.slurm.record import Record
from headrace.slurm.states import Cause, SlurmPhase, State


class SlurmJob(msgspec.Struct, frozen=True, kw_only=True):
    """One job. Times are Unix seconds, None where Slurm does not say."""

    id: int
    name: str
    state: State
    reason: str = ""
    """Why it waits or has ended, in Slurm's words: ``Resources``, ``QOSMaxGRESPerUser``."""
    user: str = ""
    partition: str = ""
    qos: str = ""
    account: str = ""
    submitted_at: float | None = None
    starts_at: float | None = None
    """When it started, or is expected to."""
    ends_at: float | None = None
    """When it has ended, or must."""
    time_limit: float | None = None
    """Seconds, `times.UNLIMITED` for ever."""
    nodes: tuple[str, ...] = ()
    gres: str = ""
    record: Record | None = None
    """What we wrote into its comment; None for anybody else's job."""
    restarts: int | None = None
    """How often it was queued again, where that is told."""

    @property
    def phase(self) -> SlurmPhase:
        """Waiting, running, ending, over, or unknown."""
        return self.state.phase

    @property
    def cause(self) -> Cause:
        """Why it has ended."""
        return self.state.cause(self.reason)

    @property
    def model(self) -> str | None:
        """The model by the job's name, if the name is like ours. Only a record proves it."""
        return record.model_of(self.name)


class JobList(msgspec.Struct, frozen=True):
    """All jobs of our account at one moment, or why that is not known."""

    jobs: tuple[SlurmJob, ...] = ()
    malformed: int = 0
    """Rows that could not be read."""
    problem: str = ""
    """Why this must not be acted on; `jobs` is empty then and means nothing."""

    @property
    def trusted(self) -> bool:
        """Whether a job that is not in `jobs` is not there."""
        return not self.problem

    def ours(self, installation: str, cluster: str) -> tuple[SlurmJob, ...]:
        """The jobs whose record names this installation and cluster."""
        return tuple(
            job
            for job in self.jobs
            if job.record is not None
            and (job.record.installation, job.record.cluster) == (installation, cluster)
        )


_NULL: Final = frozenset({"(null)", "N/A", "n/a"})


def parse(output: CommandOutput) -> JobList:
    """A snapshot from `Commands.squeue` or `Commands.squeue_start`."""
    rows = table(output, JOB_FIELDS)
    if rows.problem:
        return JobList(problem=rows.problem)
    return _snapshot(rows.rows, _of_row, rows.malformed)


def parse_json(output: CommandOutput) -> JobList:
    """A snapshot from `Commands.squeue_json`, or any other JSON of 22.05 to 24.11."""
    answer = jsonform.read(output, "jobs")
    if answer.problem:
        return JobList(problem=answer.problem)
    return _snapshot(answer.items, _of_json, 0)


def _snapshot(rows: Any, read: Callable[[Any], SlurmJob], malformed: int) -> JobList:
    jobs: dict[int, SlurmJob] = {}
    for each in rows:
        try:
            job = read(each)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            malformed += 1
            continue
        jobs[job.id] = job
    if malformed and not jobs:
        return JobList(malformed=malformed, problem="no row of the answer could be read")
    return JobList(tuple(jobs.values()), malformed)


def _of_row(row: dict[str, str]) -> SlurmJob:
    return SlurmJob(
        id=_job_id(row["id"]),
        name=row["name"],
        state=states.parse(row["state"]),
        reason=_text(row["reason"]),
        user=_text(row["user"]),
        partition=_text(row["partition"]),
        qos=_text(row["qos"]),
        account=_text(row["account"]),
        submitted_at=times.when(row["submitted"]),
        starts_at=times.when(row["starts"]),
        ends_at=times.when(row["ends"]),
        time_limit=times.limit(row["limit"]),
        nodes=hostlist.expand_or_none(row["nodes"]),
        gres=_text(row["gres"]),
        record=record.parse(row["comment"]),
    )


def _of_json(job: dict[str, Any]) -> SlurmJob:
    text, moment = jsonform.text, jsonform.moment
    minutes = jsonform.number(job.get("time_limit"))
    restarts = jsonform.number(job.get("restart_cnt"))
    return SlurmJob(
        id=_job_id(str(jsonform.number(job["job_id"]))),
        name=text(job.get("name")),
        state=states.of(jsonform.words(job["job_state"])),
        reason=_text(text(job.get("state_reason"))),
        user=text(job.get("user_name")),
        partition=text(job.get("partition")),
        qos=text(job.get("qos")),
        account=text(job.get("account")),
        submitted_at=moment(job.get("submit_time")),
        starts_at=moment(job.get("start_time")),
        ends_at=moment(job.get("end_time")),
        time_limit=None if minutes is None else minutes * times.MINUTE,
        nodes=hostlist.expand_or_none(text(job.get("nodes"))),
        gres=text(job.get("tres_per_node")),
        record=record.parse(text(job.get("comment"))),
        restarts=None if restarts is None else int(restarts),
    )


def _job_id(text: str) -> int:
    number = text.strip().removesuffix(".0")
    if not (number.isascii() and number.isdigit()) or not 0 < int(number[:20]) < 2**32:
        raise ValueError(f"not a job id: {text[:40]!r}")
    return int(number)


def _text(text: str) -> str:
    word = text.strip()
    return "" if word in _NULL or word == "None" else word
