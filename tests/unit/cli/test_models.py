"""`headrace models`: what it says of good files and of bad ones."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main
from tests.unit.catalogue.texts import other


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.toml").write_bytes(other("Acme/A-1"))
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["models", *map(str, arguments)])


def test_check(folder: Path) -> None:
    done = run("check", folder)
    assert done.exit_code == 0
    assert "a.toml: ok, Acme/A-1 as acme-a-1" in done.stdout
    (folder / "b.toml").write_bytes(other("B").replace(b"max = 3", b"maxi = 3"))
    done = run("check", folder)
    assert done.exit_code == 1
    assert f"{folder}/b.toml:16: scale: Object contains unknown field `maxi`" in done.stderr
    told = json.loads(run("check", folder, "--json").stdout)
    assert [row["slug"] for row in told["models"]] == ["acme-a-1"]
    assert told["problems"][0]["line"] == 16


def test_list_and_show(folder: Path) -> None:
    assert "acme-a-1" in run("list", folder).stdout
    assert json.loads(run("list", folder, "--json").stdout)[0]["workers"] == "0-3"
    assert "scale.max " in run("show", folder, "Acme/A-1").stdout
    told = json.loads(run("show", folder, "acme-a-1", "--json").stdout)
    assert told["scale"]["max"] == 3
    done = run("show", folder, "nope")
    assert done.exit_code == 1
    assert "it has: acme-a-1" in done.stderr


def test_script_prints_and_submits_nothing(folder: Path) -> None:
    done = run("script", folder, "acme-a-1", "--cluster", "c1", "--configs", "/shared/w")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("#!/bin/bash\n")
    assert "#SBATCH --job-name=hr-acme-a-1\n" in done.stdout
    assert "--config /shared/w/acme-a-1-" in done.stdout
    assert 'model = "acme-a-1"' in run("script", folder, "acme-a-1", "--worker-toml").stdout
    assert run("script", folder, "acme-a-1", "--cluster", "a b").exit_code == 2


def test_the_help_teaches() -> None:
    assert "[engine]" in run("--help").stdout
    for command in ("check", "list", "show", "script"):
        assert run(command, "--help").exit_code == 0
