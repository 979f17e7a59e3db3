"""top, jobs, scale and drain as commands: what they print, write and refuse."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headrace.catalogue import overrides
from headrace.catalogue import status as status_file
from headrace.catalogue.overrides import Override, Overrides
from headrace.catalogue.status import Status
from headrace.cli.main import main
from headrace.cli.operate import drain_job
from headrace.slurm import states
from headrace.slurm.record import Record
from headrace.slurm.squeue import JobList, SlurmJob
from tests.unit.cli.status_samples import status


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def run(folder: Path, *words: str, **changes: object) -> Result:
    now = time.time()
    made = status(written=now, queue_at=now, slurm_at=now, **changes)
    status_file.write(folder / "status.json", made)
    return CliRunner().invoke(main, [*words, "--state", str(folder)])


def said(folder: Path) -> Overrides:
    return overrides.load(folder / "overrides.json")


def test_top_prints_once_where_there_is_no_terminal_and_tells_of_failure(folder: Path) -> None:
    done = run(folder, "top")
    assert "Qwen/Qwen3-8B" in done.output
    assert done.exit_code == 1
    well = run(folder, "top", "--once", models=status().models[:2])
    assert well.exit_code == 0


def test_top_as_json_is_the_status_and_its_age(folder: Path) -> None:
    done = run(folder, "top", "--json")
    found = json.loads(done.output)
    assert found["stale"] is False
    assert found["models"][0]["workers"][0]["job"] == 101


def test_jobs_as_json_are_rows(folder: Path) -> None:
    done = run(folder, "jobs", "--json")
    assert done.exit_code == 0
    rows = json.loads(done.output)
    assert [(row["job"], row["model"], row["phase"]) for row in rows] == [
        (101, "qwen3-8b", "ready"), (102, "qwen3-8b", "waiting"), (103, "small", "loading"),
    ]  # fmt: skip


@pytest.mark.parametrize("command", [["top"], ["jobs"], ["scale", "x"], ["drain", "x"]])
def test_without_a_status_one_sentence_says_what_to_do(tmp_path: Path, command: list[str]) -> None:
    done = CliRunner().invoke(main, [*command, "--state", str(tmp_path)])
    assert done.exit_code == 1
    assert "no scaler has run with this folder" in done.output


def test_a_status_of_another_version_is_told(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"cluster": 3}')
    done = CliRunner().invoke(main, ["top", "--state", str(tmp_path)])
    assert "not a scaler's status of this version" in done.output


def test_scale_adds_to_what_was_said_and_reset_takes_it_away(folder: Path) -> None:
    assert run(folder, "scale", "qwen3-8b", "--max", "3").exit_code == 0
    done = run(folder, "scale", "Qwen/Qwen3-8B", "--min", "1")
    assert said(folder).models == {"qwen3-8b": Override(min=1, max=3)}
    assert "min 1, max 3, by hand" in done.output
    assert "--reset" in done.output
    run(folder, "scale", "small", "--pin", "2")
    assert said(folder).models["small"] == Override(min=2, max=2)
    run(folder, "scale", "qwen3-8b", "--reset")
    assert set(said(folder).models) == {"small"}


def test_scale_without_bounds_only_tells(folder: Path) -> None:
    done = run(folder, "scale", "qwen3-8b", "--json")
    assert json.loads(done.output)["override"] is None
    assert "0 to 4 jobs" in done.output
    assert not (folder / "overrides.json").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--min", "3", "--max", "2"], "more than"),
        (["--pin", "1", "--min", "1"], "either"),
        (["--reset", "--pin", "1"], "alone"),
        (["--max", "-1"], "range"),
    ],
)
def test_scale_refuses_what_cannot_be(folder: Path, words: list[str], why: str) -> None:
    done = run(folder, "scale", "qwen3-8b", *words)
    assert done.exit_code == 2
    assert why in done.output
    assert not (folder / "overrides.json").exists()


def test_scale_refuses_what_contradicts_an_earlier_word(folder: Path) -> None:
    run(folder, "scale", "qwen3-8b", "--max", "1")
    assert run(folder, "scale", "qwen3-8b", "--min", "2").exit_code == 2
    assert said(folder).models == {"qwen3-8b": Override(max=1)}


def test_a_model_that_is_not_there_is_told_with_those_that_are(folder: Path) -> None:
    done = run(folder, "scale", "nosuch", "--min", "1")
    assert done.exit_code == 1
    assert "it has: qwen3-8b, small, broken" in done.output


def test_draining_a_model_is_a_maximum_of_none_and_says_how_to_undo_it(folder: Path) -> None:
    run(folder, "scale", "qwen3-8b", "--min", "2")
    done = run(folder, "drain", "qwen3-8b")
    assert said(folder).models == {"qwen3-8b": Override(max=0)}
    assert "headrace scale qwen3-8b --reset" in done.output


def test_damaged_overrides_are_told_and_kept(folder: Path) -> None:
    (folder / "overrides.json").write_text("{")
    done = run(folder, "scale", "small", "--pin", "1")
    assert done.exit_code == 1
    assert "Remove that file" in done.output
    assert (folder / "overrides.json").read_text() == "{"


def snapshot(**changes: object) -> JobList:
    record = Record("headrace", "alpha", "qwen3-8b", "ab12", "s1")
    fields = {"id": 101, "name": "hr-qwen3-8b", "state": states.parse("RUNNING"), "record": record}
    return JobList((SlurmJob(**(fields | changes)),))  # type: ignore[arg-type]  # a job's own fields


def refusal(found: JobList, id: int = 101, installation: str = "headrace") -> str:
    seen: Status = status()
    return drain_job.refusal(found, id, seen, installation)


def test_a_job_is_drained_only_if_its_record_is_ours() -> None:
    assert refusal(snapshot()) == ""
    assert refusal(snapshot(), installation="") == ""
    other = Record("headrace", "beta", "qwen3-8b", "ab12", "s1")
    for found in (snapshot(record=None), snapshot(record=other)):
        assert "not a job of this scaler's" in refusal(found)
    assert "not a job of this scaler's" in refusal(snapshot(), installation="second")
    # Only the folder is known, and its scaler does not list this job: another installation's.
    assert "not a job" in refusal(snapshot(id=900), 900, installation="")


def test_a_job_that_serves_nobody_yet_is_cancelled_rather_than_drained() -> None:
    now = status().written
    assert [drain_job.loads(id, status(), now) for id in (101, 102, 103, 900)] == [
        False, False, True, False,
    ]  # fmt: skip
    assert not drain_job.loads(103, status(), now + 3600), "it may have loaded since"


def test_nothing_is_drained_that_is_unknown_or_does_not_run() -> None:
    assert "knows no job 5" in refusal(snapshot(), 5)
    assert "does not run" in refusal(snapshot(state=states.parse("PENDING")))
    assert "Nothing was done" in refusal(JobList(problem="timed out"))
