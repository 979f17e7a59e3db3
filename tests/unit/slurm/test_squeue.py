"""What squeue says, from a real 22.05 and as newer ones write it; and what is no answer at all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.slurm import squeue, times
from headrace.slurm.commands import END, FIELD, JOB_FIELDS, RECORD
from headrace.slurm.output import CommandOutput
from headrace.slurm.record import Record
from headrace.slurm.squeue import SlurmJob
from headrace.slurm.states import Cause, JobState, SlurmPhase, State
from tests.unit.slurm.outputs import NEWER, newer, recorded

OURS = Record("site-a", "c1", "qwen3-8b", "9644350fe50f", "0000000000000001")
HEADER = RECORD + FIELD.join(JOB_FIELDS) + END + "\n"


def row(**fields: str) -> str:
    known = dict.fromkeys(JOB_FIELDS, "") | {"id": "1", "state": "RUNNING"} | fields
    return RECORD + FIELD.join(known.values()) + END + "\n"


def by_id(jobs: tuple[SlurmJob, ...]) -> dict[int, SlurmJob]:
    return {job.id: job for job in jobs}


def test_a_real_answer() -> None:
    snapshot = squeue.parse(recorded("squeue"))
    assert snapshot.trusted
    assert snapshot.malformed == 0
    jobs = by_id(snapshot.jobs)
    assert set(jobs) == {1, 2, 3, 4, 5, 6, 7, 8}
    assert jobs[1] == SlurmJob(
        id=1,
        name="hr-qwen3-8b",
        state=State(JobState.RUNNING, ("RUNNING",)),
        user="root",
        partition="low",
        submitted_at=1795336610,
        starts_at=1795336612,
        ends_at=1795336732,
        time_limit=120,
        nodes=("gpu1",),
        gres="gres:gpu:4",
        record=OURS,
    )
    assert jobs[1].model == "qwen3-8b"
    waits = jobs[6]
    assert (waits.phase, waits.reason, waits.starts_at) == (
        SlurmPhase.WAITING,
        "Resources",
        1795336732,
    )
    assert (jobs[2].phase, jobs[2].cause) == (SlurmPhase.OVER, Cause.CANCELLED)
    # sbatch was refused, and yet there is a job
    assert jobs[7].cause is Cause.REFUSED
    # an array of somebody else's, held, with a comment that looks like rows and fields
    assert (jobs[8].record, jobs[8].reason, jobs[8].starts_at) == (None, "JobHeldUser", None)
    assert {job.id for job in snapshot.ours("site-a", "c1")} == {1, 2, 3, 4, 5, 6, 7}
    assert snapshot.ours("site-a", "c2") == ()


def test_json_and_rows_of_the_same_moment_agree() -> None:
    rows = by_id(squeue.parse(recorded("squeue")).jobs)
    told = squeue.parse_json(recorded("squeue_json"))
    assert told.trusted
    assert len(told.jobs) == 3
    for job in told.jobs:
        same = rows[job.id]
        assert job.restarts == 0
        assert (job.state, job.record, job.nodes) == (same.state, same.record, same.nodes)
        assert (job.starts_at, job.ends_at) == (same.starts_at, same.ends_at)
        assert (job.time_limit, job.reason) == (same.time_limit, same.reason)


@pytest.mark.parametrize("version", NEWER)
def test_newer_json(version: str) -> None:
    snapshot = squeue.parse_json(newer(version))
    assert snapshot.trusted, snapshot.problem
    assert snapshot.malformed == 0
    first, second = snapshot.jobs
    assert first.record == OURS
    assert first.nodes == ("gpu01", "gpu02")
    assert (first.submitted_at, first.starts_at) == (1701982989, 1701983394)
    assert (first.ends_at, first.time_limit, first.restarts) == (1701989394, 6000, 2)
    expected = JobState.CONFIGURING if version == "24.05" else JobState.RUNNING
    assert first.state.main is expected
    assert second.phase is SlurmPhase.WAITING
    assert (second.starts_at, second.ends_at) == (None, None)
    assert (second.time_limit, second.reason) == (times.UNLIMITED, "QOSMaxGRESPerUser")


def test_expected_starts() -> None:
    snapshot = squeue.parse(recorded("squeue_start"))
    assert {job.id: job.starts_at for job in snapshot.jobs} == {6: 1795336732, 8: None}


def test_no_jobs_is_an_answer() -> None:
    snapshot = squeue.parse(recorded("squeue_none"))
    assert snapshot.trusted
    assert snapshot.jobs == ()


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (recorded("squeue_user"), "Invalid user"),
        (recorded("squeue_down"), "Unable to contact slurm controller"),
        (recorded("squeue_usage"), "squeue --help"),
        (CommandOutput(0), "empty"),
        (CommandOutput(0, "\n\n"), "empty"),
        (CommandOutput(0, "<html>"), "not an answer in our format"),
        (CommandOutput(0, "JOBID NAME\n1 x\n"), "not an answer in our format"),
        (CommandOutput(1, HEADER + row()), "exit code 1"),
        (CommandOutput(0, HEADER + row()[:-20]), "cut short"),
        (CommandOutput(0, HEADER[:-10]), "cut short"),
        (CommandOutput(0, HEADER + RECORD + "x" + END), "no row"),
        (CommandOutput(None, failure="squeue did not answer within 30 s"), "did not answer"),
        (CommandOutput(0, HEADER, "slurm_load_jobs error: Socket timed out"), "Socket timed out"),
    ],
)
def test_what_is_no_answer_is_never_taken_for_no_jobs(output: CommandOutput, problem: str) -> None:
    snapshot = squeue.parse(output)
    assert not snapshot.trusted
    assert problem in snapshot.problem
    assert snapshot.jobs == ()


def test_noise_beside_an_answer_is_only_noise() -> None:
    noise = "squeue: error: plugin_load_from_file: dlopen(x.so): no such file"
    assert squeue.parse(CommandOutput(0, HEADER + row(), noise)).trusted
    assert squeue.parse(CommandOutput(0, "Wed Nov 4 site notice\n" + HEADER + row())).trusted


@pytest.mark.parametrize("job", ["0", "-1", "x", "", "1.5", "1_2", "9" * 30, "\u0661"])
def test_a_malformed_row_is_counted_and_the_rest_is_read(job: str) -> None:
    snapshot = squeue.parse(CommandOutput(0, HEADER + row(id="7") + row(id=job)))
    assert snapshot.trusted
    assert [each.id for each in snapshot.jobs] == [7]
    assert snapshot.malformed == 1


def test_an_unknown_state_is_survived() -> None:
    (job,) = squeue.parse(CommandOutput(0, HEADER + row(state="HIBERNATING"))).jobs
    assert job.phase is SlurmPhase.UNKNOWN
    assert job.state.words == ("HIBERNATING",)


@given(st.text(), st.text(), st.text(), st.sampled_from([0, 1, 127, None]))
def test_any_output_at_all(stdout: str, stderr: str, garbled: str, code: int | None) -> None:
    for text in (stdout, HEADER + stdout, HEADER + row() + garbled, row() + stdout + HEADER):
        output = CommandOutput(code, text, stderr)
        for snapshot in (squeue.parse(output), squeue.parse_json(output)):
            assert snapshot.trusted or not snapshot.jobs
            assert snapshot.trusted <= (code == 0)


@given(st.dictionaries(st.sampled_from(sorted(JOB_FIELDS)), st.text(), max_size=16))
def test_any_fields_at_all(fields: dict[str, str]) -> None:
    squeue.parse(CommandOutput(0, HEADER + row(id="7") + row(**fields)))


@given(
    st.integers(0, 10_000),
    st.sampled_from(["", "x", "\n", RECORD, FIELD, END, '"', "]}"]),
)
def test_a_garbled_answer_never_raises(cut: int, put: str) -> None:
    for name, parse in (("squeue", squeue.parse), ("squeue_json", squeue.parse_json)):
        text = recorded(name).stdout
        at = cut % len(text.rstrip())  # without what ends it, it may well be whole
        parse(CommandOutput(0, text[:at] + put + text[at + 1 :]))
        cut_short = parse(CommandOutput(0, text[:at]))
        assert not cut_short.trusted or len(cut_short.jobs) < 8


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
JSON_FIELDS = ["job_id", "job_state", "name", "start_time", "time_limit", "nodes", "comment"]


@given(st.dictionaries(st.sampled_from(JSON_FIELDS), json_values))
def test_json_of_any_kind(fields: dict[str, Any]) -> None:
    good = {"job_id": 7, "job_state": ["RUNNING"]}
    text = json.dumps({"jobs": [good, good | {"job_id": 8} | fields, fields], "errors": []})
    snapshot = squeue.parse_json(CommandOutput(0, text))
    assert snapshot.trusted
    assert 7 in by_id(snapshot.jobs)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("[]", "without a list"),
        ('{"jobs": {}}', "without a list"),
        ('{"jobs": [', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"jobs": [], "errors": [{"error": "Unable to contact\\ncontroller"}]}', "Unable to"),
        ('{"jobs": [], "errors": ["bad"]}', "bad"),
        ('{"jobs": [1, null, "x"]}', "no row"),
    ],
)
def test_json_that_is_no_answer(text: str, problem: str) -> None:
    snapshot = squeue.parse_json(CommandOutput(0, text))
    assert not snapshot.trusted
    assert problem in snapshot.problem
