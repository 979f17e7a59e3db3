"""`headrace keys`, `users`, `groups`, `limits`, `db`: as an administrator types them."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headrace.cli.admin import context
from headrace.cli.main import main
from headrace.gateway.policy import api_keys

ADA = "ada@example.org"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an edge.toml, and the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(context, "settle", False)
    api_keys.create_secret(tmp_path / "api.secret")
    (tmp_path / "edge.toml").write_text(
        'secret_file = "api.secret"\nport = 1\n[store]\nurl = "sqlite:///gateway.db"\n'
        '[[keys]]\nid = "first"\ndigest = "d"\n'
    )
    return tmp_path


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result


def told(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def test_the_life_of_a_key(site: Path) -> None:
    made = told("keys", "create", "--owner", ADA, "--group", "chemistry", "--expires", "30d")
    assert api_keys.well_formed(made["key"])
    assert made["expires"] - made["created"] == pytest.approx(30 * 86400, abs=1)
    assert told("users", "list")[0]["groups"] == ["chemistry"]
    (listed,) = told("keys", "list")
    assert listed == {name: value for name, value in made.items() if name != "key"}
    run("limits", "set", "--key", made["id"], "--requests-per-minute", "3")
    new = told("keys", "rotate", made["id"])
    assert new["replaces"] == made["id"]
    assert [key["id"] for key in told("keys", "list")] == [new["id"], made["id"]]
    assert {(limit["name"], limit["value"]) for limit in told("limits", "list")} == {
        (made["id"], 3), (new["id"], 3),
    }  # fmt: skip
    assert told("keys", "revoke", made["id"])["state"] == "revoked"
    assert [key["id"] for key in told("keys", "list")] == [new["id"]]
    assert len(told("keys", "list", "--all")) == 2
    assert stat.S_IMODE((site / "gateway.db").stat().st_mode) == 0o600


def test_the_key_is_printed_once_and_is_not_in_the_store(site: Path) -> None:
    key = told("keys", "create", "--owner", ADA)["key"]
    run("keys", "list", "--all")
    run("db", "backup", "saved")
    assert stat.S_IMODE((site / "saved").stat().st_mode) == 0o600
    for file in site.iterdir():
        assert key.encode() not in file.read_bytes(), file


def test_limits_are_set_listed_and_taken_away(site: Path) -> None:
    run("groups", "set", "chemistry", "--model", "*", "--model", "gpt-9")
    run("limits", "set", "--group", "chemistry", "--requests-per-day", "100", "--concurrency", "4")
    run("limits", "set", "--group", "chemistry", "--model", "m", "--tokens-per-month", "5",
        "--together")  # fmt: skip
    run("limits", "set", "--model", "m", "--queued", "9")
    run("limits", "set", "--key", "first", "--requests-per-minute", "1")
    limits = told("limits", "list")
    assert sorted((limit["kind"], limit["each"], limit["value"]) for limit in limits) == [
        ("group", False, 5), ("group", True, 4), ("group", True, 100), ("key", True, 1),
        ("model", False, 9),
    ]  # fmt: skip
    run("limits", "set", "--group", "chemistry", "--concurrency", "none")
    assert len(told("limits", "list")) == 4
    assert "100 requests per day, each" in run("limits", "list").stdout
    run("groups", "delete", "chemistry")
    assert len(told("limits", "list")) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("limits", "set", "--requests-per-minute", "1"),
        ("limits", "set", "--user", ADA, "--key", "first", "--queued", "1"),
        ("limits", "set", "--user", ADA, "--together", "--queued", "1"),
        ("limits", "set", "--key", "first"),
        ("limits", "set", "--key", "first", "--queued", "-1"),
        ("limits", "set", "--key", "first", "--queued", "many"),
        ("keys", "create", "--owner", ADA, "--expires", "soon"),
    ],
)
def test_what_is_said_wrong_is_explained(site: Path, arguments: tuple[str, ...]) -> None:
    assert "Error: " in run(*arguments, code=2).output


@pytest.mark.parametrize(
    "arguments",
    [
        ("limits", "set", "--user", "nobody", "--queued", "1"),
        ("keys", "create", "--owner", "two words"),
        ("keys", "create", "--owner", ADA, "--wait", "sometimes"),
        ("keys", "revoke", "k0"),
        ("users", "set", ADA, "--join", "nothing"),
        ("groups", "delete", "everyone"),
        ("db", "restore", "edge.toml", "--yes"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(site: Path, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, code=1)
    assert result.output.startswith("Error: ")
    assert "Traceback" not in result.output


def test_users_are_shut_out_and_erased(site: Path) -> None:
    told("keys", "create", "--owner", ADA)
    assert told("users", "set", ADA, "--disable", "--organisation", "Uni")["disabled"] is True
    assert told("users", "erase", ADA, "--yes")["keys"] == 1
    assert told("users", "list") == []
    run("users", "erase", ADA, "--yes", code=1)


def test_a_backup_comes_back(site: Path) -> None:
    told("keys", "create", "--owner", ADA)
    saved = told("db", "backup", "saved")["rows"]
    told("users", "erase", ADA, "--yes")
    assert told("db", "restore", "saved", "--yes")["rows"] == saved
    assert [user["name"] for user in told("users", "list")] == [ADA]
    assert told("db", "migrate")["before"] == "0002"
    assert CliRunner().invoke(main, ["db", "restore", "saved"], input="n\n").exit_code == 1


def test_a_site_without_a_store_is_told_how_to_have_one(site: Path) -> None:
    (site / "edge.toml").write_text('secret_file = "api.secret"\n')
    assert "[store]" in run("keys", "list", code=1).output
    (site / "edge.toml").unlink()
    assert "--config" in run("keys", "list", code=1).output


def test_the_demos_store_is_found_from_its_clone(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = tmp_path / "clone/var/demo/web"
    web.mkdir(parents=True)
    for name in ("edge.toml", "api.secret"):
        (site / name).rename(web / name)
    monkeypatch.chdir(tmp_path / "clone")
    assert told("keys", "create", "--owner", ADA)["id"]
    assert (web / "gateway.db").is_file()
