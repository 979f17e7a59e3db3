"""Models that clusters announce, where they stand, and how patient a client is with them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.edge import wait_policy
from headrace.edge.models import registry as module
from headrace.edge.models.registry import ModelRegistry
from headrace.edge.models.status import SILENT, standing
from headrace.edge.options import KeyOptions, ModelOptions
from headrace.edge.wait_policy import FAIL, HOLD, Keepalive, WaitPolicy, parse, refusal, retry_after
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.plan import PLAN_SECONDS, Facts, Interval, ModelPhase, Plan
from headrace.protocol.state import WorkerPhase, WorkerState

FACTS = Facts("Acme/A", (Endpoint.CHAT, Endpoint.EMBEDDINGS))


def plan(model: str = "a", cluster: str = "north", **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "version": 1,
        "cluster": cluster,
        "model": model,
        "facts": FACTS,
        "phase": ModelPhase.COLD,
        "sent": 0.0,
    }
    return Plan(**values | changes)


def beat(phase: WorkerPhase = WorkerPhase.READY, running: int = 3, model: str = "a") -> WorkerState:
    return WorkerState(1, "north", model, "w" * 16, phase, 8, running)


def announced(*plans: Plan) -> ModelRegistry:
    models = ModelRegistry([], 0)
    for each in plans:
        new = models.announce(each, 100.0)
        if new is not None:
            models.show(new)
    return models


def test_a_model_appears_when_its_queue_is_there_and_goes_with_its_last_cluster() -> None:
    models = ModelRegistry([], 0)
    new = models.announce(plan(), 1.0)
    assert new is not None
    assert not models.all()
    models.show(new)
    assert models.find("Acme/A", 1.0) is models.find("a", 1.0) is new
    assert models.announce(plan(cluster="south"), 1.0) is None
    models.announce(plan(removed=True), 2.0)
    assert models.all()
    models.announce(plan(cluster="south", removed=True), 2.0)
    assert new.removed
    with pytest.raises(HeadraceError, match="model_not_found"):
        models.find("a", 2.0)
    assert models.by_slug("a") is new  # its running requests still hear of their workers
    models.forget(2.0)
    assert models.by_slug("a") is None
    assert models.announce(plan(removed=True), 3.0) is None
    assert models.by_slug("a") is None


def test_a_model_that_comes_back_is_listed_again() -> None:
    models = announced(plan(), plan(removed=True))
    again = models.announce(plan(), 4.0)
    assert again is not None
    models.show(again)
    assert models.all() == [again]


def test_a_configured_model_stays_as_it_is() -> None:
    models = ModelRegistry([ModelOptions(name="Mine", slug="a")], 0)
    assert models.announce(plan(phase=ModelPhase.LOADING), 1.0) is None
    (model,) = models.all()
    assert (model.name, Endpoint.EMBEDDINGS in model.endpoints) == ("Mine", False)
    assert model.standing(1.0).phase is ModelPhase.LOADING
    models.announce(plan(removed=True), 2.0)
    assert models.all() == [model]
    assert model.standing(2.0).phase is ModelPhase.COLD


def test_no_model_takes_the_name_of_another() -> None:
    models = ModelRegistry([ModelOptions(name="Mine")], 0)
    assert models.announce(plan("b", facts=Facts("Mine", (Endpoint.CHAT,))), 1.0) is None
    assert models.refused == "b"
    assert models.announce(plan("b", facts=Facts("mine", (Endpoint.CHAT,))), 1.0) is None
    assert models.by_slug("b") is None


def test_the_number_of_announced_models_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANNOUNCED", 2)
    facts = [Facts(name, (Endpoint.CHAT,)) for name in "abc"]
    models = announced(*(plan(each.name, facts=each) for each in facts))
    assert [model.name for model in models.all()] == ["a", "b"]


def test_clusters_that_disagree_serve_what_both_do() -> None:
    other = Facts("Acme/A", (Endpoint.CHAT, Endpoint.COMPLETIONS), description="else")
    (model,) = announced(plan(), plan(cluster="south", facts=other)).all()
    assert model.endpoints == (Endpoint.CHAT,)
    assert model.facts.description == ""


def test_a_changed_name_is_followed() -> None:
    models = announced(plan())
    models.announce(plan(facts=Facts("Acme/A2", (Endpoint.CHAT,))), 101.0)
    assert models.find("Acme/A2", 101.0).slug == "a"
    with pytest.raises(HeadraceError):
        models.find("Acme/A", 101.0)


def test_a_silent_scaler_removes_nothing() -> None:
    (model,) = announced(plan(phase=ModelPhase.LOADING, ready_in=Interval(40, 90))).all()
    assert model.standing(101.0).wait(1) == Interval(39, 89)
    late = model.standing(100.1 + PLAN_SECONDS)
    assert (late.phase, late.reason) == (ModelPhase.COLD, SILENT)
    assert late.wait(1) is None
    model.observe(beat(), 131.0)
    assert model.standing(131.0).phase is ModelPhase.READY


def test_early_after_the_start_an_unknown_name_may_still_come() -> None:
    models = ModelRegistry([], 0, complete_at=10.0)
    with pytest.raises(HeadraceError) as early:
        models.find("a", 7.5)
    assert (early.value.status, early.value.retry_after) == (503, 3)
    with pytest.raises(HeadraceError) as late:
        models.find("a", 10.0)
    assert late.value.status == 404


def test_the_best_of_all_clusters_counts() -> None:
    failed = plan(phase=ModelPhase.FAILED, reason="broken")
    pending = plan(
        phase=ModelPhase.PENDING, pending=2, reason="Resources", ready_in=Interval(9, 99)
    )
    other = plan(
        phase=ModelPhase.PENDING, pending=1, ready_in=Interval(50, 60), each=Interval(1, 2)
    )
    plans = [(failed, 0.0), (pending, 4.0), (other, 0.0)]
    told = standing([], plans)
    assert (told.phase, told.reason, told.pending) == (ModelPhase.PENDING, "Resources", 3)
    assert told.supply.ready_in == Interval(5, 60)
    assert standing([], plans[:1]).reason == "broken"
    assert standing([], plans[:1]).wait(1) is None
    ready = standing([beat(), beat(WorkerPhase.DRAINING)], plans)
    assert (ready.phase, ready.slots, ready.running, ready.workers) == (ModelPhase.READY, 8, 3, 1)
    assert ready.supply.free == 5
    assert standing([beat(WorkerPhase.LOADING)], []).phase is ModelPhase.LOADING


@pytest.mark.parametrize(
    ("text", "meant"),
    [("hold", HOLD), (" FAIL ", FAIL), ("30", WaitPolicy(30.0)), ("0.5", WaitPolicy(0.5))],
)
def test_patience_is_read(text: str, meant: WaitPolicy) -> None:
    assert parse(text) == meant


@given(st.binary(max_size=40) | st.sampled_from([b"-1", b"0", b"nan", b"inf", b"1e999", b"\xb2"]))
def test_any_header_is_patience_or_a_client_error(header: bytes) -> None:
    try:
        meant = wait_policy.asked(header, HOLD)
    except HeadraceError as caught:
        error: HeadraceError | None = caught
        meant = HOLD
    else:
        error = None
    assert meant in (HOLD, FAIL) or 0 < meant.seconds < 1e300
    assert error is None or (error.status, error.param) == (400, "x-headrace-wait")


def test_who_is_turned_away() -> None:
    cold = standing([], [])
    failed = standing([], [(plan(phase=ModelPhase.FAILED), 0.0)])
    ready = standing([beat()], [])
    told = {
        (name, state): refusal(meant, where)
        for name, meant in {"unset": wait_policy.DEFAULT, "hold": HOLD, "fail": FAIL}.items()
        for state, where in {"cold": cold, "failed": failed, "ready": ready}.items()
    }
    assert {key: code for key, code in told.items() if code} == {
        ("unset", "failed"): Code.MODEL_FAILED,
        ("fail", "failed"): Code.MODEL_FAILED,
        ("fail", "cold"): Code.MODEL_NOT_READY,
    }


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [(None, 30), (Interval(0, 1), 1), (Interval(40, 90), 65), (Interval(400, 900), 120)],
)
def test_clients_are_told_a_time_that_they_obey(wait: Interval | None, seconds: int) -> None:
    assert retry_after(wait) == seconds


def test_the_options_of_a_key() -> None:
    def key(**options: Any) -> KeyOptions:
        return msgspec.convert({"id": "a", "digest": "d", **options}, KeyOptions)

    assert (key().patience, key().keepalive) == (wait_policy.DEFAULT, Keepalive.COMMENT)
    assert key(wait="fail").patience == FAIL
    assert key(wait=20).patience == WaitPolicy(20.0)
    assert key(keepalive="chunk").keepalive is Keepalive.CHUNK
    for wrong in ({"wait": "maybe"}, {"wait": 0}, {"wait": float("inf")}, {"keepalive": "x"}):
        with pytest.raises(msgspec.ValidationError):
            key(**wrong)
