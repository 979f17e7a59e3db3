"""When a worker begins to drain on its own, and when it should not even begin to load."""

import time

import pytest

from headrace.protocol.state import MARGIN_SECONDS
from headrace.runtime import logging
from headrace.runtime.engine import EngineKind, EngineOptions
from headrace.runtime.lifecycle import Lifecycle
from headrace.worker import walltime
from headrace.worker.options import WorkerOptions


def ending(at: float) -> WorkerOptions:
    engine = EngineOptions(EngineKind.COMMAND)
    return WorkerOptions("c1", "m1", engine=engine, drain_seconds=30, ends_at=at)


@pytest.mark.parametrize(("left", "over"), [(-9, True), (44, True), (46, False), (1e6, False)])
def test_nothing_is_begun_that_could_not_be_drained(left: float, over: bool) -> None:
    assert walltime.is_over(ending(time.time() + left)) is over


def test_without_an_end_it_is_never_over() -> None:
    assert walltime.drain_at(ending(0)) is None
    assert not walltime.is_over(ending(0))


async def test_the_worker_is_asked_to_stop_when_it_is_time() -> None:
    life = Lifecycle(logging.setup("test"), 30)
    began = time.monotonic()
    await walltime.watch(ending(time.time() + 30 + MARGIN_SECONDS + 0.3), life)
    assert 0.2 < time.monotonic() - began < 3
    assert life.reason == walltime.REASON
