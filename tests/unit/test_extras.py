"""Small installs are enough: each process imports with what its own extra brings."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.parts import ROOT

BASE = {"msgspec"}

# Imports every module of a package, but for subpackages that bring an extra of their own.
IMPORT_ALL = """
import importlib, pkgutil, sys
package, *others = sys.argv[1:]
root = importlib.import_module(package)
for module in pkgutil.walk_packages(root.__path__, package + "."):
    if not module.name.endswith(".__main__") and not module.name.startswith(tuple(others)):
        importlib.import_module(module.name)
"""


def small_install(target: Path, extra: str | None) -> Path:
    """A folder with what this environment has of the extra, and nothing else of it."""
    names = set(BASE)
    if extra is not None:
        pins = (ROOT / f"requirements/{extra}.txt").read_text()
        names |= set(re.findall(r"^([a-z0-9._-]+)==", pins, re.MULTILINE))
    for name in names:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform or Python
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}:
            link = target / top
            if not link.exists():
                link.symlink_to(distribution.locate_file(top))  # type: ignore[arg-type]  # a path on disk
    return target


def import_all(site: Path, package: str, *others: str) -> subprocess.CompletedProcess[str]:
    roots = [ROOT / root for root in ("protocol", "services", "slurm")]
    prelude = f"import sys; sys.path[1:1] = {[str(path) for path in (*roots, site)]!r}"
    return subprocess.run(
        # -S leaves out this environment's packages, -I whatever the caller's environment would add.
        [sys.executable, "-I", "-S", "-c", f"{prelude}\n{IMPORT_ALL}", package, *others],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("extra", "package", "others"),
    [
        (None, "headrace.protocol", []),
        (None, "headrace.slurm", []),
        ("edge", "headrace.edge", []),
        ("edge", "headrace.gateway", ["headrace.gateway.store.migrations.env"]),
        ("cli", "headrace.gateway", ["headrace.gateway.store.migrations.env"]),
        ("bridge", "headrace.bridge", []),
        ("worker", "headrace.worker", []),
        ("scaler", "headrace.catalogue", []),
        ("scaler", "headrace.scaler", []),
        (
            "cli",
            "headrace.cli",
            ["headrace.cli.demo", "headrace.cli.demo.embedded_sshd", "headrace.cli.admin.plots"],
        ),
        ("demo", "headrace.cli", ["headrace.cli.admin.plots"]),
    ],
)
def test_a_package_imports_with_its_extra_alone(
    tmp_path: Path, extra: str | None, package: str, others: list[str]
) -> None:
    done = import_all(small_install(tmp_path, extra), package, *others)
    assert done.returncode == 0, done.stderr


def test_an_extra_that_is_too_small_is_noticed(tmp_path: Path) -> None:
    done = import_all(small_install(tmp_path, "bridge"), "headrace.edge")
    assert "ModuleNotFoundError" in done.stderr


def test_the_gate_needs_no_package_at_all() -> None:
    """Python started bare: no site-packages, no environment, the file alone."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "services/headrace/gate/main.py", "--no-such-option"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert "Traceback" not in done.stderr
