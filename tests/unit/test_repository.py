"""What the tree itself must keep: the layout, the pins, and files that anyone can build from."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.parts import ROOT

PINS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROCESSES = ["edge", "bridge", "worker", "scaler", "cli"]
# A pinned package, one of its hashes, a comment; so no address of an index can hide among them.
PIN = re.compile(
    r"#.*|    --hash=sha256:[0-9a-f]{64}( \\)?|[a-z0-9._-]+==[^\s;@/]+( ; [a-z_]+ [^/]*)? \\"
)


def names(requirements: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+)==", requirements, re.MULTILINE))


@pytest.mark.parametrize("root", ["protocol", "services", "slurm"])
def test_no_folder_claims_the_namespace_for_itself(root: str) -> None:
    assert (ROOT / root / "headrace").is_dir()
    assert not (ROOT / root / "headrace/__init__.py").exists()


@pytest.mark.parametrize("file", PINS, ids=lambda file: file.name)
def test_requirements_are_pins_with_hashes_and_nothing_else(file: Path) -> None:
    strange = [line for line in file.read_text().splitlines() if not PIN.fullmatch(line)]
    assert not strange


@pytest.mark.parametrize("process", [*PROCESSES, "demo"])
def test_smaller_requirements_are_part_of_the_whole(process: str) -> None:
    """Same versions and same hashes, so that what was tested is what a small machine installs."""

    def blocks(name: str) -> set[tuple[str, str]]:
        text = (ROOT / f"requirements/{name}.txt").read_text()
        # Package and version, and its hashes; the Pythons for which it counts may differ.
        return set(re.findall(r"^(\S+==\S+).*\n((?:    .*\n?)+)", text, re.MULTILINE))

    assert blocks(process)
    assert blocks(process) <= blocks("dev")


@pytest.mark.parametrize("extra", PROJECT["project"]["optional-dependencies"])
def test_every_extra_is_pinned(extra: str) -> None:
    wanted = {
        re.split(r"[^a-z0-9-]", requirement, maxsplit=1)[0]
        for requirement in PROJECT["project"]["optional-dependencies"][extra]
    } - {"headrace"}
    pinned = names((ROOT / f"requirements/{extra}.txt").read_text())
    assert wanted <= pinned, "run `make requirements`"
