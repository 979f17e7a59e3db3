"""What a user installs: the wheel of this tree has every part, and nothing beside them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.parts import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(target.glob("headrace-*.whl"))


def test_every_module_of_the_tree_is_in_it(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    for root in ("protocol", "services", "slurm"):
        ours = {str(p.relative_to(ROOT / root)) for p in (ROOT / root).rglob("*.py")}
        assert ours
        assert ours <= packed


def test_the_templates_lie_where_init_looks_for_them(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    templates = {f"headrace/cli/nats/{p.name}" for p in (ROOT / "infra/nats").glob("*.conf")}
    assert templates
    assert templates <= packed
    assert "headrace/cli/models.d/small.toml.example" in packed


def test_it_holds_the_namespace_and_its_metadata_only(wheel: Path) -> None:
    packed = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in packed} == {"headrace"}
    assert "headrace/__init__.py" not in packed


def test_installed_alone_it_finds_its_parts(wheel: Path, tmp_path: Path) -> None:
    """Unpacked, without the tree on the path: the namespace is one package, templates included."""
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path)
    probe = (
        "import sys; roots = ('/protocol', '/services', '/slurm');"
        "sys.path[:] = [path for path in sys.path if not path.endswith(roots)];"
        f"sys.path.insert(0, {str(tmp_path)!r});"
        "import headrace.protocol, headrace.slurm, headrace.cli, importlib.resources as r;"
        f"assert headrace.cli.__file__.startswith({str(tmp_path)!r}), headrace.cli.__file__;"
        "print(r.files('headrace.cli').joinpath('nats/hub.conf').is_file())"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
