"""The tree as a newcomer meets it: documentation names files that exist, names are unique."""

import re
from collections import defaultdict

import pytest

from tests.support.parts import ROOT

ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
PRODUCT = [
    file for root in ("protocol", "services", "slurm") for file in (ROOT / root).rglob("*.py")
]


def _file_by_file() -> list[str]:
    section = ARCHITECTURE.split("## One request, file by file\n")[1].split("\n## ")[0]
    return re.findall(r"`([\w/]+\.py)`", section)


@pytest.mark.parametrize("name", sorted(set(_file_by_file())))
def test_a_file_that_the_architecture_names_exists(name: str) -> None:
    assert (ROOT / name).is_file() or (ROOT / "services/headrace" / name).is_file()


def test_the_path_of_a_request_is_described_in_both_directions() -> None:
    assert len(_file_by_file()) >= 20


def test_no_two_public_classes_share_a_name() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for file in PRODUCT:
        for name in re.findall(r"^class ([A-Za-z]\w*)", file.read_text(), re.MULTILINE):
            places[name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
