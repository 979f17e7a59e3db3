"""What `headrace init` and `headrace models check` make of external models."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace.catalogue import model as catalogue
from headrace.cli.main import main
from headrace.edge.main import load as load_edge
from headrace.external import folder, keyfile, model
from headrace.external.keyfile import KeyFile
from headrace.runtime import config
from headrace.runtime.problems import FileRefusedError
from headrace.worker.provider import options
from tests.support.parts import ROOT
from tests.unit.catalogue.texts import GOOD

EXAMPLE = (ROOT / "infra/models.d/external.toml.example").read_text()


def test_the_example_is_good() -> None:
    sold = model.read(EXAMPLE)
    assert (sold.queue, sold.budget.per_day, sold.engine.address.host) == (
        "gpt-4o", 20.0, "api.openai.com"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        ("[budget]", "[budget2]", 33, "unknown field `budget2`"),
        ("per_day = 20.0\nper_month = 300.0\nuser_per_day = 2.0", "", 33, "needs a bound"),
        ('kind = "openai"', 'kind = "openai"\napi_key = "sk-1"', 13, "unknown field `api_key`"),
        ('"../keys/openai.key"', '"sk-proj-1"', 14, "a key itself has no place here"),
        ("# base_url", 'base_url = "http://api.example.org/v1"\n#', 15, "must be https"),
        ("# base_url", 'base_url = "https://u:p@x.org/v1"\n#', 15, "no name, password"),
        ('kind = "openai"', 'kind = "azure"', 11, "azure needs it"),
        ('endpoints = ["chat"]', 'endpoints = ["completions"]', 8, "not asked for completions"),
        ('model = "gpt-4o-2024-11-20"', "", 11, "missing"),
        ("completion = 10.0", "", 28, "a chat's answer has a price"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(old: str, new: str, line: int, why: str) -> None:
    assert old in EXAMPLE
    with pytest.raises(FileRefusedError) as error:
        model.read(EXAMPLE.replace(old, new, 1))
    assert why in error.value.reason
    assert abs(error.value.line - line) <= 3 or error.value.line == 0


def test_plain_http_is_for_the_loopback_or_said_to_be_meant() -> None:
    for base in ('"http://127.0.0.1:9/v1"', '"http://x.org"\nallow_http = true'):
        text = EXAMPLE.replace("# base_url", f"base_url = {base}\n#", 1)
        assert not model.read(text).engine.address.tls


def test_check_knows_them_beside_others(tmp_path: Path) -> None:
    (tmp_path / "gpt.toml").write_text(EXAMPLE)
    (tmp_path / "own.toml").write_text(GOOD)
    (tmp_path / "bad.toml").write_text(EXAMPLE.replace("prompt = 2.5", "prompt = -1"))
    done = CliRunner().invoke(main, ["models", "check", str(tmp_path)])
    assert done.exit_code == 1
    assert "gpt.toml: ok, gpt-4o as gpt-4o, external" in done.output
    assert "bad.toml:" in done.output
    assert "own.toml: ok" in done.output
    (tmp_path / "bad.toml").unlink()
    done = CliRunner().invoke(main, ["models", "check", str(tmp_path), "--json"])
    assert done.exit_code == 0
    assert [each.get("external") for each in json.loads(done.output)["models"]] == [None, True]


def test_a_cluster_does_not_take_one() -> None:
    with pytest.raises(FileRefusedError, match="belongs on the web machine"):
        catalogue.read(EXAMPLE)


def test_two_currencies_and_two_of_a_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(EXAMPLE)
    (tmp_path / "b.toml").write_text(EXAMPLE)
    (tmp_path / "c.toml").write_text(
        EXAMPLE.replace('"gpt-4o"', '"gpt-5"').replace('"EUR"', '"USD"')
    )
    told = [(each.file, each.reason) for each in folder.load(tmp_path).problems]
    assert told == [
        ("b.toml", "'gpt-4o' is the model of a.toml too"),
        ("c.toml", "price.currency: every model of a site has the same one"),
    ]


def test_what_cannot_be_read_is_a_problem_and_what_has_gone_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(EXAMPLE)
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "gone.toml").symlink_to("nowhere")
    (tmp_path / "unprintable\n.toml").write_text("nonsense")
    found = folder.load(tmp_path)
    assert list(found.files) == ["a.toml"]
    assert [str(each) for each in found.problems] == [
        "folder.toml: cannot be read: not a plain file"
    ]


def test_a_key_comes_from_a_file_that_nobody_else_may_read(tmp_path: Path) -> None:
    file = tmp_path / "k"
    file.write_text("sk-1\n")
    file.chmod(0o600)
    key = KeyFile(file)
    assert key.key == "sk-1"
    file.write_text("sk-22\n")
    assert key.key == "sk-22"
    for mode in (0o640, 0o604):
        file.chmod(mode)
        with pytest.raises(config.ConfigError, match="others may read"):
            _ = KeyFile(file).key
    file.chmod(0o440)  # as systemd's are, whose ACL shows as bits of the group
    assert KeyFile(file, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).key == "sk-22"
    file.chmod(0o600)
    file.write_text("sk-1\r\nx-evil: 1\n")
    with pytest.raises(config.ConfigError, match="not one key"):
        _ = KeyFile(file).key


def test_a_key_may_be_a_credential_of_systemd(tmp_path: Path) -> None:
    place = {"CREDENTIALS_DIRECTORY": "/run/credentials/x"}
    assert str(keyfile.place(tmp_path, "$CREDENTIALS_DIRECTORY/k", place)) == "/run/credentials/x/k"
    assert keyfile.place(tmp_path, "../k", place) == tmp_path / "../k"
    with pytest.raises(config.ConfigError, match="LoadCredential"):
        keyfile.place(tmp_path, "$CREDENTIALS_DIRECTORY/k", {})


def test_init_makes_all_that_an_external_model_needs(tmp_path: Path) -> None:
    site = tmp_path / "site"
    told = ["init", str(site), "--cluster", "alpha=llm@a.example.org", "--external", "gpt-4o"]
    done = CliRunner().invoke(main, told)
    assert done.exit_code == 0, done.output
    assert "headrace-worker --config external.toml --external gpt-4o" in done.output
    web = site / "web"
    (web / "models.d/gpt-4o.toml").write_text((web / "models.d/external.toml.example").read_text())
    (web / "keys/openai.key").touch(0o600)
    (web / "keys/openai.key").write_text("sk-1")
    sold = options.load(web / "external.toml", "gpt-4o", {})
    assert sold.worker.model == "gpt-4o"
    assert sold.worker.bus.nkey_file == str(web / "keys/hub-worker.nk")
    assert load_edge(web / "edge.toml").external == str(web / "models.d")
    hub = (web / "hub.conf").read_text()
    assert "$JS.API.CONSUMER.MSG.NEXT.REQUESTS.gpt-4o_high" in hub
    with pytest.raises(config.ConfigError, match="no model 'other'"):
        options.load(web / "external.toml", "other", {})


def test_without_external_models_nobody_may_take_requests_on_the_hub(tmp_path: Path) -> None:
    told = ["init", str(tmp_path / "s"), "--cluster", "alpha=llm@a.example.org"]
    assert CliRunner().invoke(main, told).exit_code == 0
    assert "MSG.NEXT" not in (tmp_path / "s/web/hub.conf").read_text()
