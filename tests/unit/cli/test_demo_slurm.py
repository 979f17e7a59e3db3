"""The pieces of the demo with a Slurm that decide something."""

from pathlib import Path

import pytest

from headrace.catalogue import model
from headrace.cli.demo import model_file, ports, slurm
from headrace.cli.demo.engines import EngineTable
from headrace.cli.demo.workspace import Workspace
from headrace.runtime.lifecycle import FatalError

ENGINE = EngineTable(kind="command", command=("engine", "{socket}"), env={"A": "b"})


def test_missing_packages_are_told_with_the_line_that_installs_them(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"apt-get install .*slurm-wlm munge"):
        slurm.check(str(tmp_path))


def test_the_model_sleeps_until_asked_and_takes_what_its_jobs_need_along() -> None:
    place = Workspace(Path("/demo"), Path("/run/demo"))
    text = model_file.model_file(place, ENGINE, 1, {"PYTHONPATH": "/a b:/c", "SECRET": "x"})
    made = model.read(text)
    assert (made.scale.min, made.scale.max) == (0, 2)
    assert made.scale.idle_seconds == 60
    assert made.engine.env == {"A": "b"}
    assert made.job.prologue == ("export TMPDIR=/run/demo", "export PYTHONPATH='/a b:/c'")
    assert "SECRET" not in text
    assert model.read(model_file.model_file(place, ENGINE, 5, {})).scale.max == 5


def test_a_surrounding_slurm_says_nothing_to_the_demos() -> None:
    given = {"PATH": "/bin", "SLURM_CONF": "x", "SLURM_JOB_ID": "1", "SBATCH_ACCOUNT": "a"}
    assert slurm.plain(given.items()) == {"PATH": "/bin"}


def test_ports_of_both_kinds_of_demo_are_remembered_together(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    names = (*ports.NAMES, *slurm.PORTS)
    with_slurm = ports.choose(file, names=names)
    assert ports.choose(file) == {name: with_slurm[name] for name in ports.NAMES}
    assert ports.choose(file, names=names) == with_slurm
