"""Batch scripts, whole: the golden files are what an operator would see. Rewrite them with
HEADRACE_GOLDEN=write."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.slurm import script
from headrace.slurm.record import Record
from headrace.slurm.spec import Apptainer, JobSpec
from tests.unit.slurm.outputs import HERE

JOB = Record("site-a", "c1", "qwen3-8b", "9644350fe50f", "00112233aabbccdd")
WORKER = ["headrace-worker", "--config", "/etc/headrace/worker.toml"]
SPECS = {
    "plain": JobSpec(),
    "modules": JobSpec(
        time="1-12:00:00",
        time_min="02:00:00",
        account="ml",
        partitions=("gpu", "gpu_low"),
        qos="scavenger",
        gres="gpu:a100:2",
        cpus_per_task=16,
        mem="120G",
        exclude=("gpu7", "gpu9"),
        nice=100,
        requeue=True,
        signal_seconds=120,
        output="/scratch/headrace/%x-%j.log",
        extra=("--licenses=scratch", "--exclusive"),
        modules=("gcc/13.2", "cuda/12.4"),
        venv="/opt/headrace/venv",
        prologue=("export HF_HOME=/scratch/hf", 'ulimit -n "$(ulimit -Hn)"'),
    ),
    "apptainer": JobSpec(
        constraint="[rack1|rack2]&h100",
        reservation="friday",
        gpus="h100:2",
        nodes=2,
        apptainer=Apptainer(image="/images/vllm.sif", binds=("/models:/models:ro", "/scratch")),
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_golden(name: str) -> None:
    text = script.render(SPECS[name], WORKER, JOB, {"HEADRACE_WORKER__SLOTS": "64"})
    golden = HERE / f"golden/{name}.sh"
    if os.environ.get("HEADRACE_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", SPECS)
def test_bash_can_read_it(name: str) -> None:
    text = script.render(SPECS[name], WORKER, JOB)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True, timeout=10)


@given(st.lists(st.text(st.characters(exclude_characters="\0\r"), min_size=1), min_size=1))
def test_any_argv_is_handed_on_word_by_word(command: list[str]) -> None:
    try:
        text = script.render(JobSpec(), command, JOB)
    except UnicodeEncodeError:
        return
    last = text.rsplit("code=0\n", 1)[1].removesuffix(' || code=$?\nexit "$code"\n')
    words = shlex.split(last)
    assert words[words.index("--") + 1 :] == command


@pytest.mark.parametrize(
    "name", ["", "a", "A B", "A=B", "SLURM_CONF", "SBATCH_X", "LD_PRELOAD", "A\n", "1A"]
)
def test_no_other_variables(name: str) -> None:
    with pytest.raises(ValueError, match="variable"):
        script.render(JobSpec(), WORKER, JOB, {name: "1"})


@pytest.mark.parametrize("command", [[], [""], ["a", ""], ["a\0"], ["a\r"]])
def test_no_other_commands(command: list[str]) -> None:
    with pytest.raises(ValueError, match=r"argv|NUL"):
        script.render(JobSpec(), command, JOB)


def test_a_script_has_an_end() -> None:
    with pytest.raises(ValueError, match="larger"):
        script.render(JobSpec(prologue=("x" * script.MAX_BYTES,)), WORKER, JOB)


def run(
    text: str, tmp_path: Path, squeue: str = "echo 1795336732", **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a script as a batch shell would, with programs that stand in for Slurm's."""
    programs = {
        "srun": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
        "squeue": squeue,
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    return subprocess.run(
        ["bash", "-c", text],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7", **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


def test_the_workers_exit_code_is_the_jobs(tmp_path: Path) -> None:
    done = run(script.render(JobSpec(), ["/bin/sh", "-c", "exit 7"], JOB), tmp_path)
    assert done.returncode == 7, done.stderr


def test_the_worker_knows_who_it_is_and_when_it_ends(tmp_path: Path) -> None:
    text = script.render(JobSpec(), ["/usr/bin/env"], JOB, {"HEADRACE_X": "a b'$(id)\nc"})
    told = run(text, tmp_path).stdout
    assert "HEADRACE_INSTALLATION=site-a\n" in told
    assert "HEADRACE_CLUSTER=c1\n" in told
    assert "HEADRACE_MODEL=qwen3-8b\n" in told
    assert "HEADRACE_SUBMISSION=00112233aabbccdd\n" in told
    assert "HEADRACE_X=a b'$(id)\nc\n" in told
    assert "HEADRACE_WORKER__ENDS_AT=1795336732\n" in told


def test_squeue_knows_the_end_of_the_walltime_better_than_the_environment(tmp_path: Path) -> None:
    text = script.render(JobSpec(time="1:00:00", time_min="10"), ["/usr/bin/env"], JOB)
    told = run(text, tmp_path, SLURM_JOB_END_TIME="1795333732").stdout
    assert "HEADRACE_WORKER__ENDS_AT=1795336732\n" in told
    told = run(text, tmp_path, "exit 1", SLURM_JOB_END_TIME="1795333732").stdout
    assert "HEADRACE_WORKER__ENDS_AT=1795333732\n" in told


@pytest.mark.parametrize("answer", ["echo N/A", "echo; exit 0", "exit 1", "echo '1 2'"])
def test_a_walltime_without_end_or_without_answer_is_no_obstacle(
    tmp_path: Path, answer: str
) -> None:
    done = run(script.render(JobSpec(), ["/usr/bin/env"], JOB), tmp_path, answer)
    assert done.returncode == 0, done.stderr
    assert "ENDS_AT" not in done.stdout


def test_surroundings_may_be_sloppy_but_a_missing_module_ends_the_job(tmp_path: Path) -> None:
    sloppy = JobSpec(prologue=("false", 'echo "$NOT_SET"', "module() { return 0; }"))
    assert run(script.render(sloppy, ["/bin/true"], JOB), tmp_path).returncode == 0
    modules = JobSpec(modules=("cuda/12",))
    text = script.render(modules, ["/bin/true"], JOB)
    assert run("module() { return 1; }\n" + text, tmp_path).returncode == 1
    assert run('module() { [ "$*" = "load cuda/12" ]; }\n' + text, tmp_path).returncode == 0


def test_a_signal_for_the_job_does_not_take_the_shell_before_the_worker(tmp_path: Path) -> None:
    text = script.render(JobSpec(), ["/bin/sh", "-c", "kill -TERM $PPID; sleep 0.2; exit 5"], JOB)
    # `srun` above becomes the worker, whose parent is then the batch shell.
    assert run(text, tmp_path).returncode == 5
