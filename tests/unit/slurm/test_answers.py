"""What sbatch, sinfo, scontrol and scancel say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.slurm import sbatch, scontrol, sinfo, times
from headrace.slurm.output import CommandOutput
from headrace.slurm.sbatch import SubmitOutcome
from headrace.slurm.sinfo import Node, Partition
from headrace.slurm.states import SlurmPhase
from tests.unit.slurm.outputs import recorded

FAILED = "sbatch: error: Batch job submission failed: "


@pytest.mark.parametrize(
    ("output", "job"),
    [
        (recorded("sbatch"), 9),
        (CommandOutput(0, "1234;cluster-b\n"), 1234),
        (CommandOutput(0, "1234\n", "sbatch: lua: your job was given the QOS short\n"), 1234),
        (CommandOutput(0, "Welcome!\n1234\n"), 1234),
        (CommandOutput(0, "Submitted batch job 1234\n"), 1234),
    ],
)
def test_accepted(output: CommandOutput, job: int) -> None:
    submission = sbatch.parse(output)
    assert (submission.outcome, submission.job) == (SubmitOutcome.ACCEPTED, job)


@pytest.mark.parametrize(
    ("output", "outcome", "reason"),
    [
        (recorded("sbatch_partition"), SubmitOutcome.REFUSED, "Invalid partition name"),
        (recorded("sbatch_gpus"), SubmitOutcome.REFUSED, "node configuration is not available"),
        (recorded("sbatch_no_script"), SubmitOutcome.REFUSED, "sbatch"),
        (recorded("sbatch_down"), SubmitOutcome.BUSY, "Unable to contact slurm controller"),
        (
            CommandOutput(
                1, stderr=f"{FAILED}Job violates accounting/QOS policy (job submit limit)"
            ),
            SubmitOutcome.BUSY,
            "policy",
        ),
        (
            CommandOutput(1, stderr=f"{FAILED}Slurm temporarily unable to accept job, sleeping"),
            SubmitOutcome.BUSY,
            "temporarily",
        ),
        (
            CommandOutput(1, stderr="munge: error: If munged is up, restart"),
            SubmitOutcome.BUSY,
            "munge",
        ),
        (
            CommandOutput(1, stderr=f"{FAILED}Invalid account"),
            SubmitOutcome.REFUSED,
            "Invalid account",
        ),
        (
            CommandOutput(1, stderr=f"{FAILED}Socket timed out on send/recv operation"),
            SubmitOutcome.UNSURE,
            "timed out",
        ),
        (
            CommandOutput(None, failure="sbatch did not answer in 60 s"),
            SubmitOutcome.UNSURE,
            "did not answer",
        ),
        (
            CommandOutput(None, failure="cannot start sbatch: no such file"),
            SubmitOutcome.BUSY,
            "cannot start",
        ),
        (CommandOutput(0), SubmitOutcome.UNSURE, "no job id"),
        (CommandOutput(0, "ok\n"), SubmitOutcome.UNSURE, "no job id"),
        (CommandOutput(0, "0\n"), SubmitOutcome.UNSURE, "no job id"),
        (CommandOutput(1, "1234\n"), SubmitOutcome.REFUSED, "exit code 1"),
    ],
)
def test_not_accepted(output: CommandOutput, outcome: SubmitOutcome, reason: str) -> None:
    submission = sbatch.parse(output)
    assert (submission.outcome, submission.job) == (outcome, 0)
    assert reason in submission.reason


@given(st.text(), st.text(), st.sampled_from([0, 1, None]))
def test_any_answer_of_sbatch(stdout: str, stderr: str, code: int | None) -> None:
    submission = sbatch.parse(CommandOutput(code, stdout, stderr))
    assert (submission.job > 0) == (submission.outcome is SubmitOutcome.ACCEPTED)


def test_nodes() -> None:
    answer = sinfo.parse_nodes(recorded("sinfo_nodes"))
    assert (answer.problem, answer.malformed) == ("", 0)
    assert [node.name for node in answer.nodes] == ["gpu1", "gpu2", "gpu3", "gpu4"]
    assert answer.nodes[0] == Node(
        name="gpu1",
        partitions=("low", "high"),
        state="mixed",
        cpus=8,
        memory_mb=4000,
        gpus=4,
    )


def test_a_node_that_is_down() -> None:
    down, *others = sinfo.parse_nodes(recorded("sinfo_nodes_down")).nodes
    assert (down.state, down.responds, down.usable) == ("down", False, False)
    assert down.reason == "Not responding"
    assert all(node.usable for node in others)


def test_nodes_as_json() -> None:
    text = """{"nodes": [
      {"name": "a", "state": "idle", "state_flags": [], "cpus": 8, "gres": "gpu:4"},
      {"name": "b", "state": ["IDLE", "DRAIN"], "reason": "bad fan",
       "gres": "gpu:h100:8(S:0-1)", "partitions": ["low", "high"]},
      {"name": "c", "state": ["DOWN", "NOT_RESPONDING"]}, {"name": "a b", "state": "idle"}, 7]}"""
    answer = sinfo.parse_nodes_json(CommandOutput(0, text))
    assert answer.malformed == 2
    a, b, c = answer.nodes
    assert (a.usable, a.gpus, b.usable, b.gpus, b.partitions) == (
        True,
        4,
        False,
        8,
        ("low", "high"),
    )
    assert (c.state, c.responds, c.usable) == ("down", False, False)


def test_partitions() -> None:
    answer = sinfo.parse_partitions(recorded("sinfo_partitions"))
    low, high = answer.partitions
    assert low == Partition(
        name="low",
        time_limit=times.UNLIMITED,
        nodes=4,
        gpus_per_node=4,
        tier=1,
        preempt_mode="REQUEUE",
    )
    assert (high.tier, high.preempt_mode) == (10, "OFF")


def test_no_nodes_is_no_answer() -> None:
    for output in (recorded("sinfo_down"), CommandOutput(0), CommandOutput(0, "gpu1 idle")):
        assert sinfo.parse_nodes(output).problem
        assert sinfo.parse_partitions(output).problem


@pytest.mark.parametrize(
    ("gres", "count"),
    [
        ("gpu:4", 4),
        ("gpu:a100:2", 2),
        ("gpu:a100:4(S:0-1),nvme:2", 4),
        ("gres/gpu=8", 8),
        ("gres/gpu:h100=8,gres/shard=2", 8),
        ("gpu:a:2,gpu:b:1", 3),
        ("gpu:2(IDX:0,1)", 2),
        ("craynetwork:4", 0),
        ("(null)", 0),
        ("", 0),
    ],
)
def test_gpus(gres: str, count: int) -> None:
    assert sinfo.gpus(gres) == count


@given(st.text())
def test_any_answer_of_sinfo_and_scontrol(text: str) -> None:
    output = CommandOutput(0, text)
    sinfo.parse_nodes(output)
    sinfo.parse_nodes_json(output)
    sinfo.parse_partitions(output)
    sinfo.gpus(text)
    scontrol.parse_job(output)
    scontrol.parse_ping(output)


def test_one_job_in_full() -> None:
    detail = scontrol.parse_job(recorded("show_job"))
    assert detail.problem == ""
    assert detail.job is not None
    assert (detail.job.id, detail.job.phase) == (1, SlurmPhase.RUNNING)
    assert detail.job.record is not None
    assert detail.job.record.model == "qwen3-8b"
    assert (detail.job.time_limit, detail.job.nodes) == (120, ("gpu1",))
    assert (detail.exit_code, detail.restarts, detail.requeue) == (0, 0, False)


def test_a_comment_does_not_pass_for_fields() -> None:
    text = recorded("show_job").stdout.replace("Comment=", "Comment=JobState=FAILED ExitCode=9:0 ")
    detail = scontrol.parse_job(CommandOutput(0, text))
    assert detail.job is not None
    assert (detail.job.phase, detail.exit_code) == (SlurmPhase.RUNNING, 0)


def test_changes() -> None:
    for name in ("scancel", "update"):
        assert scontrol.parse_change(recorded(name)).problem == ""
    gone = scontrol.parse_change(recorded("requeue")).problem
    assert scontrol.is_gone(gone)
    assert scontrol.is_gone(scontrol.parse_change(recorded("hold")).problem)
    down = scontrol.parse_change(recorded("scancel_down")).problem
    assert "Unable to contact" in down
    assert not scontrol.is_gone(down)


def test_ping() -> None:
    assert scontrol.parse_ping(recorded("ping")).up == ("controller",)
    down = scontrol.parse_ping(recorded("ping_down"))
    assert (down.up, down.down) == ((), ("controller",))
    assert down.problem
    both = "Slurmctld(primary) at a is DOWN\nSlurmctld(backup1) at b is UP\n"
    assert scontrol.parse_ping(CommandOutput(0, both)) == scontrol.Ping(("b",), ("a",))
