"""The page on external models is followed: what it says to write is read, and to run, runs."""

import json
import re
import shlex
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from headrace.cli.doctor import web
from headrace.cli.doctor.finding import Level
from headrace.cli.main import main
from headrace.external import model
from headrace.external.money import Price
from headrace.external.provider import ProviderOptions
from headrace.gateway import config
from headrace.gateway.store import migrations
from headrace.gateway.store.database import Database
from headrace.worker.provider import options, rewrite
from tests.support.parts import ROOT

PAGE = (ROOT / "docs/guides/external.md").read_text()
COMMANDS = re.findall(r"^\$ (headrace .*)$", PAGE, re.MULTILINE)
(FILE,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def run(command: str) -> str:
    done = CliRunner().invoke(main, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_page_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    init, check, *rights = COMMANDS
    run(init)
    key = tmp_path / "site/web/keys/openai.key"
    key.touch(0o600)
    key.write_text("the-key-of-the-provider\n")
    (tmp_path / "site/web/models.d/gpt-4o.toml").write_text(FILE)
    assert "ok, gpt-4o as gpt-4o, external" in run(check)
    sold = options.load(tmp_path / "site/web/external.toml", "gpt-4o", {})
    assert sold.file.budget.user_per_day == 2.0

    found = {each.hop: each.level for each in web.look(tmp_path / "site/web")}
    assert found["external models"] is Level.OK
    key.chmod(0o644)
    found = {each.hop: each.level for each in web.look(tmp_path / "site/web")}
    assert found["key of gpt-4o"] is Level.BAD

    store = Database(config.load(tmp_path / "site/web/edge.toml", {}).store.url)
    migrations.migrate(store)  # as the edge does when it starts
    store.close()
    for command in rights:
        run(command)
    (limit,) = json.loads(run("headrace limits list --json"))
    assert (limit["metric"], limit["value"], limit["each"]) == ("cost", 50_000_000, False)
    assert "50 cost per month, together" in run("headrace limits list")


def test_every_word_is_on_the_page() -> None:
    for struct in (ProviderOptions, Price, model.RequestOptions, model.Budget, model.RequestLimits):
        for field in msgspec.structs.fields(struct):
            assert re.search(rf"`{field.name}\b", PAGE), field.name
    for name in rewrite.CHAT - {"frequency_penalty", "presence_penalty", "top_logprobs"}:
        assert f"`{name}`" in PAGE
