"""The doctor: each judgement as a function of what was seen, and the command around them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace.catalogue import loader
from headrace.cli.doctor import checks
from headrace.cli.doctor.finding import Finding, Level
from headrace.cli.main import main
from headrace.protocol.names import Slug
from headrace.slurm.output import CommandOutput
from headrace.slurm.scontrol import Ping
from headrace.slurm.sinfo import Partition, Partitions
from tests.unit.cli.status_samples import NOW, status

URL = "nats://leaf:4222"


def levels(found: list[Finding]) -> list[Level]:
    return [each.level for each in found]


@pytest.mark.parametrize(
    ("finding", "level", "word"),
    [
        (checks.leaf("leaf", URL, ""), Level.OK, "takes the key"),
        (checks.leaf("leaf", URL, "ConnectionRefusedError"), Level.BAD, "nats-server -c leaf.conf"),
        (checks.leaf("leaf", URL, "Authorization Violation"), Level.BAD, "public half"),
        (checks.hub("", queue_there=True), Level.OK, "answers"),
        (checks.hub("", queue_there=False), Level.BAD, "headrace-edge"),
        (checks.hub("NoResponders", queue_there=False), Level.BAD, "headrace-bridge"),
        (checks.commands([]), Level.OK, "are there"),
        (checks.commands(["sbatch"]), Level.BAD, "no sbatch"),
        (checks.controller(Ping(up=("c1",))), Level.OK, "c1"),
        (checks.controller(Ping(problem="timed out")), Level.BAD, "timed out"),
        (checks.queue("", 3), Level.OK, "3 jobs"),
        (checks.queue("bad user", 0), Level.BAD, "bad user"),
        (
            checks.trial("m", CommandOutput(0, stderr="sbatch: Job 5 to start at 1")),
            Level.OK,
            "Job 5",
        ),
        (
            checks.trial("m", CommandOutput(1, stderr="sbatch: error: bad account")),
            Level.BAD,
            "account",
        ),
        (checks.worker_command(("w",), found=True), Level.OK, "w is here"),
        (checks.worker_command(("w",), found=False), Level.WARNING, "venv"),
        (checks.state("/s", "", "nfs4"), Level.OK, "nfs4"),
        (checks.state("/s", "", "tmpfs"), Level.WARNING, "shared"),
        (checks.state("/s", "cannot be written", "nfs4"), Level.BAD, "account"),
        (checks.edge("http://e", alive=True, ready=True, reason=""), Level.OK, "takes requests"),
        (checks.edge("http://e", alive=True, ready=False, reason="no hub"), Level.BAD, "no hub"),
        (
            checks.edge("http://e", alive=False, ready=False, reason="refused"),
            Level.BAD,
            "start it",
        ),
        (checks.secret("key", "others may read"), Level.BAD, "others may read"),
    ],
)
def test_a_judgement_says_what_is_wrong_and_what_to_do(
    finding: Finding, level: Level, word: str
) -> None:
    assert finding.level is level
    assert word in f"{finding.told} {finding.todo}"
    assert bool(finding.todo) == (level is not Level.OK)


def test_bad_model_files_are_told_with_their_line() -> None:
    found = checks.catalogue("d", loader.catalogue_of({"a.toml": b"name = 3\n"}))
    assert levels(found) == [Level.BAD]
    assert "d/a.toml:1" in found[0].told
    assert levels(checks.catalogue("d", loader.catalogue_of({}))) == [Level.WARNING]


def test_partitions_that_models_name_must_be_there() -> None:
    there = Partitions((Partition(name="gpu"), Partition(name="old", up=False)))
    wanted: dict[Slug, tuple[str, ...]] = {Slug("m"): ("gpu",)}
    assert levels(checks.partitions(there, wanted)) == [Level.OK]
    wanted = {Slug("m"): ("gpu", "old", "gone")}
    assert levels(checks.partitions(there, wanted)) == [Level.WARNING, Level.BAD]
    assert levels(checks.partitions(Partitions(problem="x"), wanted)) == [Level.BAD]


def test_a_scaler_needs_a_lease_and_a_fresh_status() -> None:
    seen = status(models=status().models[:2])
    assert levels(checks.scaler(seen, "host 7", True, NOW)) == [Level.OK]
    assert levels(checks.scaler(seen, "host 7", True, NOW + 100)) == [Level.BAD]
    assert levels(checks.scaler(None, "host 7", True, NOW)) == [Level.BAD]
    (none,) = checks.scaler(seen, "host 7", False, NOW)
    assert "headrace-scaler --config" in none.todo


def test_a_scalers_problems_and_failed_models_are_told() -> None:
    found = checks.scaler(status(problems=("squeue: x",)), "host 7", True, NOW)
    assert [each.hop for each in found] == ["scaler", "scaler", "model broken"]
    assert levels(found) == [Level.OK, Level.BAD, Level.BAD]


def test_each_cluster_of_the_bridge_is_up_down_or_unknown() -> None:
    metrics = '# HELP x\nheadrace_bridge_up{cluster="a"} 1.0\nheadrace_bridge_up{cluster="b"} 0.0\n'
    found = checks.bridge(metrics, ["a", "b", "c"])
    assert levels(found) == [Level.OK, Level.BAD, Level.BAD]


def test_a_fresh_installation_is_told_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it runs: every hop that needs somebody says so, and no file is changed."""
    monkeypatch.setattr("headrace.cli.nats_session.CONNECT_SECONDS", 0.3)  # refused at once
    site = tmp_path / "site"
    runner = CliRunner()
    ports = ["--leaf-host", "127.0.0.1", "--leaf-port", "1", "--api-port", "2"]
    ports += ["--bridge-metrics-port", "3"]
    assert runner.invoke(main, ["init", str(site), "--cluster", "a=u@h", *ports]).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*")}
    config, web = site / "clusters/a/scaler.toml", site / "web"
    done = runner.invoke(main, ["doctor", "--config", str(config), "--web", str(web), "--json"])
    assert done.exit_code == 1
    found = {each["hop"]: each for each in json.loads(done.output)}
    for hop in ("state", "leaf, as scaler", "scaler", "host key of a", "edge", "bridge"):
        assert found[hop]["level"] == "bad", hop
        assert found[hop]["todo"]
    assert found["models"]["level"] == "warning"
    for hop in ("scaler.toml", "scaler's key", "workers' key", "keys"):
        assert found[hop]["level"] == "ok", hop
    assert {path: path.stat().st_mtime_ns for path in site.rglob("*")} == before
    (site / "web/keys/edge.nk").chmod(0o644)
    done = runner.invoke(main, ["doctor", "--web", str(web)])
    assert "edge.nk is open to others" in done.output


def test_a_bad_configuration_is_one_finding(tmp_path: Path) -> None:
    (tmp_path / "scaler.toml").write_text("cluster = 3\n")
    done = CliRunner().invoke(main, ["doctor", "--config", str(tmp_path / "scaler.toml")])
    assert done.exit_code == 1
    assert "scaler.toml" in done.output
    assert "1 of 1 are broken" in done.output
