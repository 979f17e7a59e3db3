"""Cancels are repeated until the worker says that it has stopped, and no longer."""

from headrace.edge.dispatch.worker_control import AGAIN_SECONDS, TIMES, PendingCancels
from headrace.protocol.control import Cancel
from headrace.protocol.errors import Code
from headrace.protocol.frames import Accepted, Chunk, Fail

ID, WORKER = "0" * 32, "w" * 16
STOPPED = Fail(1, 9, Code.CANCELLED, "", retryable=False)


def test_a_cancel_is_repeated_until_it_is_confirmed() -> None:
    cancels = PendingCancels()
    assert cancels.begin(ID, WORKER, 0.0) == (WORKER, Cancel(ID))
    assert cancels.due(AGAIN_SECONDS / 2) == []
    assert cancels.due(AGAIN_SECONDS) == [(WORKER, Cancel(ID))]
    cancels.on_frame(ID, STOPPED, 1.0)
    assert cancels.due(100.0) == []


def test_a_worker_that_never_answers_is_not_asked_for_ever() -> None:
    cancels = PendingCancels()
    cancels.begin(ID, WORKER, 0.0)
    asked = sum(len(cancels.due(now)) for now in range(10 * TIMES))
    assert asked == TIMES - 1


def test_frames_that_still_come_are_answered_but_not_each() -> None:
    cancels = PendingCancels()
    cancels.begin(ID, WORKER, 0.0)
    assert cancels.on_frame(ID, Chunk(1, 3, b""), 0.1) is None
    assert cancels.on_frame(ID, Chunk(1, 4, b""), AGAIN_SECONDS) == ("", Cancel(ID))
    assert cancels.on_frame(ID, Chunk(1, 5, b""), AGAIN_SECONDS + 0.1) is None


def test_an_old_attempt_that_wakes_up_is_stopped_too() -> None:
    """Its frames do not say whose they are, and the worker that was told is another one."""
    cancels = PendingCancels()
    cancels.begin(ID, WORKER, 0.0)
    while cancels.due(100.0):
        pass
    assert cancels.on_frame(ID, Chunk(1, 3, b""), 200.0) == ("", Cancel(ID))


def test_a_worker_that_was_never_heard_of_is_found() -> None:
    cancels = PendingCancels()
    assert cancels.on_frame(ID, Chunk(1, 3, b""), 0.0) == ("", Cancel(ID))
    assert cancels.on_frame(ID, Accepted(1, 0, WORKER, "c"), 1.0) == (WORKER, Cancel(ID))
    assert cancels.due(2.0) == [(WORKER, Cancel(ID))]


def test_one_that_has_stopped_and_begins_again_is_cancelled_again() -> None:
    cancels = PendingCancels()
    cancels.begin(ID, WORKER, 0.0)
    cancels.on_frame(ID, STOPPED, 0.1)
    assert cancels.on_frame(ID, Accepted(2, 0, WORKER, "c"), 5.0) == (WORKER, Cancel(ID))
