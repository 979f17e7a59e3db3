"""The policy alone: what it must always do, and what it must never."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.scaler.policy.decide import CancelJob, Decision, DrainJob, SubmitJob, decide, observe
from headrace.scaler.policy.learned import Learned
from headrace.scaler.policy.observations import (
    EndedJob,
    JobOutcome,
    JobPhase,
    ModelJob,
    Observation,
)
from headrace.scaler.policy.sharing import PeerWorkers
from headrace.scaler.spec import Scaling
from tests.unit.scaler.observed import NOW, anything, job, seen

SPEC = Scaling(max=4, slots=8)

specs = st.builds(
    lambda least, more, patience, idle: Scaling(
        min=least, max=least + more, patience=patience, idle_seconds=idle
    ),
    st.integers(0, 3),
    st.integers(0, 4),
    st.sampled_from([0.01, 1.0, 100.0]),
    st.none() | st.floats(0, 1000),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Learned, Scaling]:
    """A spec, and what was learned in a few strange rounds before now."""
    learned, spec = Learned(), draw(specs)
    for back in sorted(draw(st.lists(st.floats(0.1, 5000), max_size=4)), reverse=True):
        past = msgspec.structs.replace(
            draw(anything()), queue_at=NOW - back, jobs_at=NOW - back, workers_at=NOW - back
        )
        observe(past, spec, learned, NOW - back)
    return learned, spec


def submissions(decision: Decision) -> int:
    return sum(isinstance(action, SubmitJob) for action in decision.actions)


@given(histories(), anything(), st.sampled_from(["queue_at", "jobs_at", "workers_at"]),
       st.floats(31, 1e6) | st.floats(-1e6, -31))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_nothing_is_done_on_stale_knowledge(
    history: tuple[Learned, Scaling], now: Observation, source: str, age: float
) -> None:
    learned, spec = history
    before = msgspec.msgpack.encode(learned)
    stale = msgspec.structs.replace(now, **{source: NOW - age})
    decision = observe(stale, spec, learned, NOW)
    assert decision.actions == ()
    assert spec.min <= decision.desired <= spec.max
    assert msgspec.msgpack.encode(learned) == before, "and nothing is learned from it"


@given(histories(), anything())
@settings(max_examples=400, deadline=None)
def test_what_holds_for_every_decision(history: tuple[Learned, Scaling], now: Observation) -> None:
    learned, spec = history
    decision = observe(now, spec, learned, NOW)
    phases = {each.id: each.phase for each in now.jobs}
    assert spec.min <= decision.desired <= spec.max
    assert decision.needed <= decision.desired
    assert submissions(decision) <= min(spec.submissions_per_minute, spec.max)
    touched = Counter(
        action.job for action in decision.actions if isinstance(action, CancelJob | DrainJob)
    )
    assert all(count == 1 for count in touched.values())
    for action in decision.actions:
        if isinstance(action, CancelJob):
            assert phases[action.job] in {JobPhase.WAITING, JobPhase.LOADING}
        if isinstance(action, DrainJob):
            assert phases[action.job] is JobPhase.READY
    drained = sum(isinstance(action, DrainJob) for action in decision.actions)
    ready = sum(phase is JobPhase.READY for phase in phases.values())
    assert ready - drained >= min(ready, decision.needed)


@given(histories(), anything())
@settings(max_examples=100, deadline=None)
def test_a_decision_changes_nothing_and_is_always_the_same(
    history: tuple[Learned, Scaling], now: Observation
) -> None:
    learned, spec = history
    before = msgspec.msgpack.encode(learned)
    assert decide(now, spec, learned, NOW) == decide(now, spec, learned, NOW)
    assert msgspec.msgpack.encode(learned) == before


@given(histories())
@settings(max_examples=50, deadline=None)
def test_what_was_learned_survives_a_restart(history: tuple[Learned, Scaling]) -> None:
    learned, _ = history
    encoded = msgspec.msgpack.encode(learned)
    assert msgspec.msgpack.decode(encoded, type=Learned) == learned
    assert len(encoded) < 20_000


def test_the_first_request_wakes_a_cold_model() -> None:
    decision = observe(seen(1), SPEC, Learned(), NOW)
    assert decision.actions == (SubmitJob("1 requests wait"),)
    assert decision.desired == 1


def test_nothing_more_is_submitted_while_one_is_on_its_way() -> None:
    for phase in (JobPhase.WAITING, JobPhase.LOADING):
        assert observe(seen(3, 0, job("1", phase)), SPEC, Learned(), NOW).actions == ()


def test_a_backlog_that_is_gone_before_another_worker_loads_starts_none() -> None:
    short, long = seen(20, 8, job("1")), seen(2000, 8, job("1"))
    assert submissions(observe(short, SPEC, Learned(), NOW)) == 0
    assert submissions(observe(long, SPEC, Learned(), NOW)) == 3


def test_patience_is_what_waiting_may_cost() -> None:
    wanted = [
        observe(seen(800, 8, job("1")), Scaling(max=8, patience=patience), Learned(), NOW).needed
        for patience in (1.0, 10.0, 1000.0)
    ]
    assert wanted[0] > wanted[1] > wanted[2] == 1


def test_jobs_that_are_not_ready_go_first_when_demand_goes() -> None:
    spec = Scaling(max=4, idle_seconds=300.0)
    learned = Learned()
    jobs = (
        job("ready"),
        job("loading", JobPhase.LOADING),
        job("old", JobPhase.WAITING, submitted_at=NOW - 800),
        job("new", JobPhase.WAITING, submitted_at=NOW - 100),
    )
    observe(seen(5000, 8, *jobs), spec, learned, NOW)
    decisions = [
        observe(seen(0, 0, *jobs, now=NOW + later), spec, learned, NOW + later)
        for later in (50, 150, 320)
    ]
    assert [each.actions for each in decisions] == [
        (),
        tuple(CancelJob(name, "no longer needed") for name in ("new", "old", "loading")),
        (*(CancelJob(name, "no longer needed") for name in ("new", "old", "loading")),
         DrainJob("ready", "no longer needed")),
    ]  # fmt: skip


def test_the_worker_whose_walltime_ends_first_is_drained_first() -> None:
    jobs = (job("a", ends_at=NOW + 9000), job("b", ends_at=NOW + 5000), job("c", running=3))
    spec = Scaling(min=1, max=4, idle_seconds=0.0)
    drained = observe(seen(0, 0, *jobs), spec, Learned(), NOW).actions
    assert [action.job for action in drained if isinstance(action, DrainJob)] == ["b", "a"]


def test_a_job_that_never_becomes_ready_is_ended() -> None:
    slow = job("1", JobPhase.LOADING, started_at=NOW - 1900)
    actions = observe(seen(1, 0, slow), SPEC, Learned(), NOW).actions
    assert actions[0] == CancelJob("1", "not ready after 1800 s")
    assert isinstance(actions[1], SubmitJob), "and another one is tried"


def test_a_successor_comes_only_for_a_worker_that_is_needed() -> None:
    ending = job("1", ends_at=NOW + 100, running=1)
    spec = Scaling(max=4, idle_seconds=60.0)
    busy = observe(seen(0, 1, ending), spec, Learned(), NOW)
    assert busy.actions == (SubmitJob("successor", "1"),)
    idle = observe(seen(0, 0, ending), spec, Learned(), NOW)
    assert submissions(idle) == 0
    with_one = seen(0, 1, ending, job("2", JobPhase.WAITING))
    assert observe(with_one, spec, Learned(), NOW).actions == ()
    without = Scaling(max=4, idle_seconds=60.0, successor=False)
    assert observe(seen(0, 1, ending), without, Learned(), NOW).actions == ()


def test_a_worker_lost_while_it_is_kept_has_a_successor() -> None:
    """Also one that comes too late, with nobody asking in between; until it isn't kept any more."""
    spec = Scaling(max=4, idle_seconds=3600.0)
    learned = Learned()
    observe(seen(0, 1, job("1", ends_at=NOW + 100, running=1)), spec, learned, NOW)
    waiting = job("2", JobPhase.WAITING, submitted_at=NOW)
    for later in (110, 210, 2900):
        late = observe(seen(0, 0, waiting, now=NOW + later), spec, learned, NOW + later)
        assert late.actions == ()
    unkept = observe(seen(0, 0, waiting, now=NOW + 3700), spec, learned, NOW + 3700)
    assert unkept.actions == (CancelJob("2", "no longer needed"),)


def test_the_successor_of_one_that_others_cannot_stand_in_for_comes_earlier() -> None:
    learned = Learned()
    for minute in range(1, 61):
        learned.wait.add(60.0 * minute)
    learned.forecast.rate = 2.0
    ending = job("1", ends_at=NOW + 4000)
    others = [job(str(number)) for number in (2, 3, 4)]

    def successors(*jobs: ModelJob) -> list[str]:
        actions = decide(seen(0, 1, *jobs), SPEC, learned, NOW).actions
        return [each.successor_of for each in actions if isinstance(each, SubmitJob)]

    assert "1" in successors(ending)
    assert "1" not in successors(ending, *others)


def test_workers_of_other_clusters_count() -> None:
    there = PeerWorkers(ready_before=1)
    assert observe(seen(5, elsewhere=there), SPEC, Learned(), NOW).actions == ()


def fail(learned: Learned, now: float, node: str, *, served: bool = False) -> Decision:
    ended = EndedJob(
        id="1", at=now, outcome=JobOutcome.FAILED, served=served, node=node, reason="out of memory"
    )
    return observe(seen(3, 0, now=now, ended=(ended,)), SPEC, learned, now)


@pytest.mark.parametrize(("served", "first"), [(False, 30), (True, 0)])
def test_failures_back_off_and_at_last_the_model_is_marked_failed(
    served: bool, first: float
) -> None:
    """One that served is replaced at once, but only once: it may die of what it is asked."""
    learned, now, pauses = Learned(), NOW, []
    decision = Decision(desired=0, needed=0, reason="")
    for number in range(SPEC.failures_to_give_up):
        decision = fail(learned, now, f"node{number}", served=served)
        begun = now
        while not submissions(decision):
            assert decision.blocked
            now += 10
            decision = observe(seen(3, now=now), SPEC, learned, now)
        pauses.append(now - begun)
    assert pauses == [first, 60, 120, 240, 3600]
    assert decision.failed == "out of memory"
    assert submissions(decision) == 1, "one job tells whether it works again"
    again = job("2", ready_at=now)
    later = now + 400
    decision = observe(seen(0, 1, again, now=later), SPEC, learned, later)
    assert decision.failed == ""
    assert learned.failures.in_a_row == 0


def test_one_that_served_is_replaced_at_once_though_others_failed_to_start_before_it() -> None:
    learned = Learned()
    for number in range(3):
        assert not submissions(fail(learned, NOW + 1000 * number, ""))
    assert submissions(fail(learned, NOW + 3000, "node", served=True)) == 1
    assert not submissions(fail(learned, NOW + 3001, "node", served=True))


def test_preemption_is_no_failure() -> None:
    ended = EndedJob(id="1", at=NOW, outcome=JobOutcome.PREEMPTED)
    assert submissions(observe(seen(3, 0, ended=(ended,)), SPEC, Learned(), NOW)) == 1


def test_a_node_on_which_jobs_fail_is_avoided_for_a_while() -> None:
    learned = Learned()
    fail(learned, NOW, "bad")
    fail(learned, NOW + 300, "bad")
    fail(learned, NOW + 600, "good")
    now = NOW + 3000
    decision = observe(seen(1, now=now), SPEC, learned, now)
    assert [action.avoid for action in decision.actions if isinstance(action, SubmitJob)] == [
        ("bad",)
    ]
    assert learned.failures.nodes_to_avoid(NOW + 7 * 3600) == ()


@pytest.mark.parametrize("per_minute", [1, 3])
def test_submissions_have_a_cap(per_minute: int) -> None:
    spec = Scaling(min=20, max=20, submissions_per_minute=per_minute)
    learned = Learned()
    jobs: list[ModelJob] = []
    for second in range(0, 121, 5):
        now = NOW + second
        decision = observe(seen(0, 0, *jobs, now=now), spec, learned, now)
        for _ in range(submissions(decision)):
            jobs.append(job(str(len(jobs)), JobPhase.WAITING, submitted_at=now))
    assert per_minute * 2 <= len(jobs) <= per_minute * 3
