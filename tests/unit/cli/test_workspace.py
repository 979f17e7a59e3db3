"""The demo's folder: its own, one demo at a time, and a short place for sockets."""

import stat
from pathlib import Path

import pytest

from headrace.cli.demo import workspace
from headrace.gateway.policy import api_keys
from headrace.runtime.lifecycle import FatalError


def test_one_demo_at_a_time(tmp_path: Path) -> None:
    with (
        workspace.opened(tmp_path / "demo"),
        pytest.raises(FatalError, match="runs already"),
        workspace.opened(tmp_path / "demo"),
    ):
        pass
    with workspace.opened(tmp_path / "demo"):
        pass


@pytest.mark.parametrize("name", workspace.OURS)
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").touch()
    with pytest.raises(FatalError, match="holds something else"), workspace.opened(tmp_path):
        pass
    assert (tmp_path / name / "precious").exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_was_there_keeps_its_mode_and_its_files(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "other").touch()
    with workspace.opened(tmp_path):
        pass
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert (tmp_path / "other").exists()


def test_a_new_folder_is_its_owners_alone(tmp_path: Path) -> None:
    with workspace.opened(tmp_path / "demo") as opened:
        for folder in (opened.root, opened.logs, opened.run):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_key_is_the_same_at_every_start(tmp_path: Path) -> None:
    with workspace.opened(tmp_path / "demo") as opened:
        key = opened.api_key()
        assert api_keys.well_formed(key)
    with workspace.opened(tmp_path / "demo") as opened:
        assert opened.api_key() == key
        (opened.root / "api.key").write_text("damaged")
        assert api_keys.well_formed(opened.api_key())


def test_what_a_demo_left_is_gone_at_the_next_start_and_at_the_end(tmp_path: Path) -> None:
    with workspace.opened(tmp_path / "demo") as opened:
        (opened.logs / "hub.log").touch()
        opened.info.touch()
    assert not opened.info.exists()
    opened.info.touch()  # as after a kill
    with workspace.opened(tmp_path / "demo") as opened:
        assert not opened.info.exists()
        assert not list(opened.logs.iterdir())


@pytest.mark.parametrize("name", ["x" * 60, "a b", "ü", "a;b"])
def test_sockets_get_a_short_and_plain_place_wherever_the_demo_is(
    tmp_path: Path, name: str
) -> None:
    with workspace.opened(tmp_path / name) as opened:
        run = str(opened.run)
        assert len(run) <= workspace.MAX_RUN_PATH
        assert run.isascii()
        assert not set(run) & set(" ;\"'")
        assert opened.run.is_dir()
    assert not Path(run).exists()


@pytest.mark.parametrize("name", ['a"b', "a$b", "a\\b", "a\nb"])
def test_a_folder_that_no_configuration_can_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="path"), workspace.opened(tmp_path / name):
        pass
    assert not (tmp_path / name).exists()
