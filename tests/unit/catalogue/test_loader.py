"""A folder of model files: what is taken, what is refused, and what a change is."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.catalogue import loader
from headrace.catalogue.loader import Catalogue, catalogue_of, changes, load
from headrace.runtime.modelfolder import MAX_FILE_BYTES
from tests.unit.catalogue.texts import other

EMPTY = Catalogue({})


def test_a_bad_file_is_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(other("B"))
    (tmp_path / "a.toml").write_bytes(other("A"))
    (tmp_path / "bad.toml").write_bytes(other("C").replace(b"max = 3", b"max = 3\nmaxi = 3"))
    (tmp_path / "latin.toml").write_bytes(b"# one\n# \xff")
    found = load(tmp_path)
    assert list(found.entries) == ["a", "b"]
    assert [str(problem).partition(" ")[0] for problem in found.problems] == [
        "bad.toml:17:", "latin.toml:2:",
    ]  # fmt: skip


def test_what_is_no_model_file_is_not_looked_at(tmp_path: Path) -> None:
    names = [".x.toml", "x.toml~", "#x.toml#", ".#x.toml", "x.toml.swp", "x.tml", "README"]
    for name in (*names, "x\n.toml"):
        (tmp_path / name).write_text("nonsense")
    assert load(tmp_path) == EMPTY


def test_what_cannot_be_read_is_a_problem_and_stops_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "large.toml").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    (tmp_path / "endless.toml").symlink_to("/dev/zero")
    (tmp_path / "gone.toml").symlink_to("nowhere")
    (tmp_path / "good.toml").write_bytes(other("G"))
    found = load(tmp_path)
    assert list(found.entries) == ["g"]
    refused = {problem.file for problem in found.problems}
    assert refused == {"pipe.toml", "folder.toml", "large.toml", "endless.toml"}


def test_a_folder_that_is_not_there_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(loader.CatalogueError):
        load(tmp_path / "missing")


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "MAX_FILES", 2)
    for name in "abc":
        (tmp_path / f"{name}.toml").write_bytes(other(name))
    found = load(tmp_path)
    assert list(found.entries) == ["a", "b"]
    assert found.problems[0].file == "c.toml"


def test_two_files_of_one_model_are_both_named() -> None:
    files = {"a.toml": other("X"), "b.toml": other("x"), "c.toml": other("c")}
    found = catalogue_of(files)
    assert list(found.entries) == ["c"]
    first, second = found.problems
    assert (first.file, second.file) == ("a.toml", "b.toml")
    assert "b.toml" in first.reason
    assert "a.toml" in second.reason
    # The one that served before goes on, as it was.
    before = catalogue_of({"b.toml": other("x")})
    assert catalogue_of(files, before).entries["x"] == before.entries["x"]  # type: ignore[index]


def test_a_file_that_turns_bad_keeps_its_model_until_it_is_gone() -> None:
    before = catalogue_of({"a.toml": other("A")})
    half = catalogue_of({"a.toml": b"name = "}, before)
    assert half.entries == before.entries
    assert half.problems
    assert changes(before, half) == loader.Changes((), (), ())
    gone = catalogue_of({}, half)
    assert changes(half, gone).removed == ("a",)
    # Another file that has taken its name in the meantime goes before it.
    moved = catalogue_of({"a.toml": b"name = ", "b.toml": other("A")}, before)
    assert [entry.file for entry in moved.entries.values()] == ["b.toml"]


def test_changes() -> None:
    old = catalogue_of({"a.toml": other("A"), "b.toml": other("B"), "c.toml": other("C")})
    new = catalogue_of(
        {
            "a.toml": other("A") + b"# a comment\n",
            "bb.toml": other("B").replace(b"max = 3", b"max = 4"),
            "d.toml": other("D"),
        },
        old,
    )
    found = changes(old, new)
    assert (found.added, found.removed, found.changed) == (("d",), ("c",), ("b",))
    assert old.entries["a"].digest != new.entries["a"].digest  # type: ignore[index]


def test_a_file_that_has_not_changed_is_not_read_again() -> None:
    old = catalogue_of({"a.toml": other("A")})
    again = catalogue_of({"a.toml": other("A")}, old)
    assert next(iter(again.entries.values())) is next(iter(old.entries.values()))


@given(st.dictionaries(st.sampled_from(["a.toml", "b.toml", "c.toml"]), st.binary(max_size=60)))
def test_hostile_files_are_problems_and_the_good_one_stays(files: dict[str, bytes]) -> None:
    found = catalogue_of(files | {"z.toml": other("Z")})
    assert list(found.entries) == ["z"]
    assert {problem.file for problem in found.problems} == set(files)
