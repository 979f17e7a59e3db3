"""`headrace top` on the web machine: what it makes of what workers and scalers tell."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace.cli.main import main
from headrace.cli.operate import top, web_tables
from headrace.cli.operate.live_view import LiveView
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.plan import Facts, ModelPhase, Plan
from headrace.protocol.state import WorkerPhase, WorkerState
from tests.unit.cli.test_tables import line, shown

NOW = 1000.0
CLOCK = 1_800_000_000.0


def beat(worker: str = "aaaaaaaaaaaaaaaa", **changes: object) -> WorkerState:
    fields: dict[str, object] = {
        "version": 1, "cluster": "alpha", "model": "small", "worker": worker,
        "phase": WorkerPhase.READY, "slots": 8, "running": 0, "node": "gpu1",
    }  # fmt: skip
    return WorkerState(**{**fields, **changes})  # type: ignore[arg-type]


def plan(**changes: object) -> Plan:
    fields: dict[str, object] = {
        "version": 1, "cluster": "alpha", "model": "small", "sent": CLOCK,
        "facts": Facts("org/Small", (Endpoint.CHAT,)), "phase": ModelPhase.COLD,
    }  # fmt: skip
    return Plan(**{**fields, **changes})  # type: ignore[arg-type]


def test_it_says_which_worker_serves() -> None:
    heard = LiveView()
    heard.on_state(beat(), NOW)
    heard.on_state(beat("bbbbbbbbbbbbbbbb", node="gpu2", running=1, job=17), NOW)
    text = shown(web_tables.top(heard, NOW, CLOCK))
    assert line(text, "small") == ["small", "ready", "1/16"]
    assert line(text, "aaaaaaaaaaaaaaaa")[1:] == ["ready", "alpha", "gpu1", "0/8"]
    assert line(text, "bbbbbbbbbbbbbbbb")[1:] == ["ready", "alpha", "gpu2", "17", "1/8"]


def test_a_rate_is_of_two_heartbeats_and_a_change_of_phase_between_them_spoils_it_not() -> None:
    heard = LiveView()
    heard.on_state(beat(tokens=1000), NOW)
    heard.on_state(beat(tokens=1090, phase=WorkerPhase.DRAINING), NOW + 0.1)
    heard.on_state(beat(tokens=1200, phase=WorkerPhase.DRAINING), NOW + 1)
    (model,) = web_tables.plain(heard, NOW + 1)
    assert model["tokens_per_second"] == 200
    assert model["workers"][0]["state"] == "draining"
    heard.on_state(beat(tokens=5), NOW + 2)  # its engine was started again
    assert web_tables.plain(heard, NOW + 2)[0]["tokens_per_second"] == 0


def test_who_is_gone_or_silent_is_not_shown() -> None:
    heard = LiveView()
    heard.on_state(beat(), NOW)
    heard.on_state(beat("bbbbbbbbbbbbbbbb"), NOW + 3)
    assert [each["worker"][0] for each in web_tables.plain(heard, NOW + 4)[0]["workers"]] == ["b"]
    heard.on_state(beat("bbbbbbbbbbbbbbbb", phase=WorkerPhase.GONE), NOW + 4)
    assert web_tables.plain(heard, NOW + 4) == []
    assert "no worker and no scaler" in shown(web_tables.top(heard, NOW + 4, CLOCK))


def test_a_model_without_workers_is_there_as_its_scaler_says() -> None:
    heard = LiveView()
    heard.on_plan(plan(phase=ModelPhase.FAILED, reason="it dies at once"), NOW)
    heard.on_plan(plan(cluster="beta"), NOW)
    (model,) = web_tables.plain(heard, NOW)
    assert (model["state"], model["reason"], model["name"]) == (
        "cold", "it dies at once", "org/Small",
    )  # fmt: skip
    heard.on_plan(plan(cluster="beta", removed=True), NOW)
    assert web_tables.plain(heard, NOW)[0]["state"] == "failed"
    assert web_tables.plain(heard, NOW + 31) == []


def test_where_nothing_is_said_it_looks_at_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert top.web_here() is None
    (tmp_path / top.DEMO).mkdir(parents=True)
    (tmp_path / top.DEMO / "edge.toml").touch()
    assert top.web_here() == top.DEMO
    (tmp_path / "edge.toml").touch()
    assert top.web_here() == Path()
    (tmp_path / "scaler.toml").touch()
    assert top.web_here() is None


def test_a_hub_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.cli.nats_session.CONNECT_SECONDS", 0.3)  # refused at once
    (tmp_path / "edge.toml").write_text('[bus]\nurl = "nats://127.0.0.1:1"\n')
    done = CliRunner().invoke(main, ["top", "--web", str(tmp_path)])
    assert done.exit_code == 1
    assert "the hub at nats://127.0.0.1:1 cannot be asked" in done.output
    nothing = CliRunner().invoke(main, ["top", "--web", str(tmp_path / "no")])
    assert "cannot be read" in nothing.output


def test_a_clusters_words_are_shown_as_they_are_and_move_no_cursor() -> None:
    heard = LiveView()
    heard.on_state(beat(node="[/red]\x1b[2J", reason="\x9b31m[bold]"), NOW)
    text = shown(web_tables.top(heard, NOW, CLOCK))
    assert "[/red] [2J" in text
    assert "[bold]" in text
    assert not {"\x1b", "\x9b"} & set(text)


def test_those_who_fell_silent_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.cli.operate.live_view.MAX_WORKERS", 2)
    heard = LiveView()
    for worker in "abc":
        heard.on_state(beat(worker * 16), NOW)
    assert len(heard.workers("small", NOW)) == 2
    heard.on_state(beat("c" * 16), NOW + 10)
    assert [each.state.worker for each in heard.workers("small", NOW + 10)] == ["c" * 16]
