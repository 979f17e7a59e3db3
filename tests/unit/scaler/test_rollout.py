"""A model's file changes while its jobs run: they are replaced, and clients notice nothing."""

from pathlib import Path

import pytest

from headrace.protocol.plan import ModelPhase
from headrace.scaler.fleet import KnownJob
from headrace.scaler.policy.decide import CancelJob, DrainJob
from headrace.scaler.policy.observations import JobPhase
from headrace.scaler.rollout import REASON, renew
from headrace.slurm import record
from headrace.slurm.states import SlurmPhase
from headrace.testing.fake_cluster import FakeOptions
from tests.unit.scaler.world import MODEL, World

NOW = 1_000_000.0


def known(number: int, generation: str, phase: JobPhase, ends_at: float = 0.0) -> KnownJob:
    return KnownJob(f"s{number}", number, NOW - 900, generation, phase, ends_at=ends_at,
                 relieves=generation == "new")  # fmt: skip


def test_what_is_new_is_shown_as_it_is() -> None:
    fleet = [known(place, "new", phase) for place, phase in enumerate(JobPhase, 1)]
    assert renew(fleet, "new", NOW) == (tuple(each.job for each in fleet), ())


def test_of_what_is_older_that_which_serves_is_shown_as_at_its_end() -> None:
    fleet = [known(place, "old", phase, ends_at=NOW + 900) for place, phase in enumerate(JobPhase)]
    renewal = renew(fleet, "new", NOW)
    assert renewal.actions == (CancelJob("?s0", REASON),)
    assert [(job.phase, job.ends_at < NOW) for job in renewal.jobs] == [
        (JobPhase.LOADING, False),
        (JobPhase.READY, True),
        (JobPhase.SILENT, False),
        (JobPhase.DRAINING, False),
        (JobPhase.ENDING, False),
    ]


def test_each_new_worker_relieves_one_older_one_and_goes_on_to_say_so() -> None:
    fleet = [
        known(1, "old", JobPhase.READY, ends_at=NOW + 900),
        known(2, "old", JobPhase.READY, ends_at=NOW + 300),
        known(3, "new", JobPhase.READY),
        known(4, "new", JobPhase.LOADING),
    ]
    for _ in range(3):  # as long as the older one has not gone
        renewal = renew(fleet, "new", NOW)
        assert renewal.actions == (DrainJob("2", REASON),)
        assert [job.id for job in renewal.jobs] == ["1", "3", "4"]
    fleet[3].phase = JobPhase.READY
    assert renew(fleet, "new", NOW).actions == (DrainJob("1", REASON), DrainJob("2", REASON))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def rewrite(world: World, old: str, new: str) -> str:
    """Change the model's file; its new generation."""
    file = world.folder / "models.d" / "m.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    world.round(1.0)
    return world.rounds.keepers[MODEL].model.generation


def hashes(world: World, *phases: SlurmPhase) -> list[str]:
    """The generations of the jobs that there are."""
    records = [record.parse(job.comment) for job in world.jobs(*phases)]
    return [each.spec_hash for each in records if each is not None]


def serving(world: World) -> int:
    return sum(world.serves(job) for job in world.jobs(SlurmPhase.RUNNING))


@pytest.mark.parametrize("waiting", [0, 50])
@pytest.mark.parametrize("restart", [False, True])
def test_running_workers_are_replaced_without_a_gap(
    world: World, waiting: int, *, restart: bool
) -> None:
    rewrite(world, "max = 3", "max = 3\nmin = 2")
    world.pass_(120)
    assert serving(world) == 2
    world.queue.waiting = waiting
    new = rewrite(world, "serve", "serve-better")
    assert len(hashes(world)) > 2, "the new ones are asked for at once"
    for step in range(120):
        world.pass_(5)
        assert serving(world) >= 2
        if restart and step % 3 == 0:
            world.rounds = world.new_scaler()
        if waiting and step == 60:
            world.queue.waiting, world.queue.delivered = 0, waiting
    assert set(hashes(world)) == {new}
    assert len(world.jobs()) in {2, 3}
    assert world.submissions() <= 5


def test_a_worker_that_idles_is_replaced_only_as_long_as_it_is_kept(world: World) -> None:
    world.queue.waiting = 1
    world.pass_(120)
    world.queue.waiting, world.queue.delivered = 0, 1
    rewrite(world, "serve", "serve-better")
    world.pass_(600)
    assert world.jobs() == []


def test_what_waits_is_submitted_anew_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, options=FakeOptions(max_running=0))
    world.queue.waiting = 1
    world.pass_(60)
    assert len(world.jobs(SlurmPhase.WAITING)) == 1
    new = rewrite(world, "gpu:1", "gpu:2")
    assert hashes(world) == [new]


def test_what_jobs_do_not_depend_on_replaces_none(world: World) -> None:
    rewrite(world, "max = 3", "max = 3\nmin = 1")
    world.pass_(120)
    rewrite(world, 'name = "M"', 'name = "M"\ndescription = "It is better than it was."')
    rewrite(world, "max = 3", "max = 2\npatience = 2.0")
    world.pass_(120)
    assert world.submissions() == 1


def test_a_new_version_that_fails_leaves_the_older_one_in_service(world: World) -> None:
    rewrite(world, "max = 3", "max = 3\nmin = 1")
    world.pass_(120)
    (old,) = world.jobs()
    new = rewrite(world, "serve", "srve")
    for _ in range(300):
        plan = world.pass_(10)
        for job in world.jobs(SlurmPhase.RUNNING):
            if job.id != old.id:
                world.slurm.finish(job.id, exit_code=127)
        assert plan.phase is ModelPhase.READY
    assert world.submissions() <= 1 + 5, "it is given up like any other"
    better = rewrite(world, "srve", "serve-better")
    assert new != better
    world.pass_(120)
    assert hashes(world) == [better], "the fixed one is tried at once"
