"""The scaler of this version says that there is none."""

import pytest

from headrace.scaler.main import main


def test_it_says_so_and_asks_not_to_be_started_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 78
    assert "this version has no scaler" in capsys.readouterr().err


def test_it_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "headrace-worker" in capsys.readouterr().out
