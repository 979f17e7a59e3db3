"""The files of the local Slurm: nothing in them that slurm.conf would read as something else."""

from pathlib import Path

import pytest

from headrace.devcluster import local
from headrace.devcluster.local import LocalOptions
from headrace.devcluster.loopback import free_ports

PORTS = [17001, 17002, 17003]
TWO_NODES = LocalOptions(nodes=2, gpus=2)


def test_everything_is_below_its_own_folder(tmp_path: Path) -> None:
    local.write(tmp_path, TWO_NODES, PORTS)
    conf = (tmp_path / "slurm.conf").read_text()
    paths = [word for line in conf.splitlines() for word in line.split("=") if word[:1] == "/"]
    assert [path for path in paths if not path.startswith(str(tmp_path))] == ["/bin/true"]
    assert f"AuthInfo=socket={tmp_path}/munge.sock" in conf
    assert "SlurmctldPort=17001" in conf
    assert "NodeName=gpu2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=17003" in conf


def test_every_node_has_its_gpus(tmp_path: Path) -> None:
    local.write(tmp_path, TWO_NODES, PORTS)
    lines = (tmp_path / "gres.conf").read_text().splitlines()
    assert lines[-1] == f"NodeName=gpu2 Name=gpu File={tmp_path}/nvidia1"
    assert len(lines) == 4
    assert (tmp_path / "nvidia1").exists()


@pytest.mark.parametrize("name", ["with space", "a#b", "a,b", "p%n", "x" * 100])
def test_a_path_that_would_be_misread_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="path"):
        local.write(tmp_path / name, TWO_NODES, PORTS)


def test_each_daemon_has_a_port_of_its_own(tmp_path: Path) -> None:
    assert len(set(free_ports(20))) == 20
    with pytest.raises(ValueError, match="ports"):
        local.slurm_conf(tmp_path, TWO_NODES, PORTS[:2])
