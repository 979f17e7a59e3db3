"""The edge's state machine of one request, alone: order, duplicates, gaps, attempts, bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.edge.answer import MAX_LOSSES, Answer, Phase, Step
from headrace.protocol.errors import Code
from headrace.protocol.frames import Accepted, Chunk, End, Fail, Frame, Head, Timings, Usage

LIMIT = 10_000


def attempt(number: int, tokens: list[bytes]) -> list[Frame]:
    """All frames of one undisturbed attempt."""
    frames: list[Frame] = [
        Accepted(number, 0, f"worker{number:010d}", "north"),
        Head(number, 1, 200, "text/event-stream"),
    ]
    frames += [Chunk(number, seq, token) for seq, token in enumerate(tokens, 2)]
    frames.append(End(number, len(tokens) + 2, Usage(1, len(tokens)), Timings()))
    return frames


def feed(answer: Answer, frames: list[Frame]) -> list[Step]:
    return [answer.on_frame(frame) for frame in frames]


def test_an_undisturbed_answer() -> None:
    answer = Answer(LIMIT)
    feed(answer, attempt(1, [b"a", b"b", b"c"]))
    assert answer.phase is Phase.ENDED
    assert answer.error is None
    assert answer.status == 200
    assert answer.take() == b"abc"
    assert answer.take() == b""
    assert answer.usage == Usage(1, 3)


TOKENS = [b"%d." % number for number in range(6)]


@given(st.lists(st.integers(0, 8), max_size=60))
def test_whatever_is_doubled_dropped_or_reordered_each_token_comes_once_in_order(
    noise: list[int],
) -> None:
    """However frames arrive, once the worker has sent all from where it was asked, all is there."""
    frames = attempt(1, TOKENS)
    answer = Answer(LIMIT)
    answer.on_frame(frames[0])
    seen = b""
    for index in noise:
        answer.on_frame(frames[index])
        seen += answer.take()
        assert b"".join(TOKENS).startswith(seen)
    feed(answer, frames[answer.next_seq :])
    seen += answer.take()
    assert seen == b"".join(TOKENS)
    assert answer.phase is Phase.ENDED


def test_a_gap_asks_for_what_is_missing() -> None:
    frames = attempt(1, TOKENS)
    answer = Answer(LIMIT)
    assert feed(answer, frames[:3]) == [Step.NOTHING, Step.WAKE, Step.WAKE]
    assert answer.on_frame(frames[4]) is Step.RESUME
    assert answer.next_seq == 3
    feed(answer, frames[3:])
    assert answer.take() == b"".join(TOKENS)


def test_frames_of_a_lost_attempt_are_dropped_once_another_has_begun() -> None:
    first, second = attempt(1, [b"x", b"y"]), attempt(2, TOKENS)
    answer = Answer(LIMIT)
    feed(answer, first[:3])  # the client has seen nothing yet: `visible` is the shell's to set
    feed(answer, second[:4])
    feed(answer, first[3:])
    feed(answer, second[4:])
    assert answer.take() == b"".join(TOKENS)
    assert answer.worker == "worker0000000002"
    assert answer.losses == 1


def test_another_attempt_never_makes_a_seam_in_what_the_client_has_seen() -> None:
    answer = Answer(LIMIT)
    feed(answer, attempt(1, TOKENS)[:4])
    answer.visible = True
    assert answer.on_frame(attempt(2, TOKENS)[0]) is Step.REFUSE
    assert answer.error is not None
    assert answer.error.code is Code.WORKER_LOST


def test_an_attempt_that_begins_after_the_end_is_refused() -> None:
    answer = Answer(LIMIT)
    feed(answer, attempt(1, TOKENS))
    assert answer.on_frame(attempt(2, TOKENS)[0]) is Step.REFUSE
    assert answer.on_frame(attempt(1, TOKENS)[3]) is Step.NOTHING
    assert answer.error is None


def test_a_retryable_failure_waits_for_another_worker_while_nothing_was_seen() -> None:
    answer = Answer(LIMIT)
    feed(answer, attempt(1, TOKENS)[:2])
    assert answer.on_frame(Fail(1, 2, Code.ENGINE_FAILED, "died", retryable=True)) is Step.WAKE
    assert answer.phase is Phase.QUEUED
    assert answer.error is None
    feed(answer, attempt(2, TOKENS))
    assert answer.take() == b"".join(TOKENS)


def test_a_retryable_failure_ends_an_answer_that_was_seen() -> None:
    answer = Answer(LIMIT)
    feed(answer, attempt(1, TOKENS)[:4])
    answer.visible = True
    answer.on_frame(Fail(1, 4, Code.ENGINE_FAILED, "died", retryable=True))
    assert answer.phase is Phase.ENDED
    assert answer.error is not None
    assert answer.error.code is Code.ENGINE_FAILED


def test_a_request_that_loses_worker_after_worker_is_given_up() -> None:
    answer = Answer(LIMIT)
    for number in range(1, MAX_LOSSES + 1):
        assert answer.phase is Phase.QUEUED
        feed(answer, attempt(number, TOKENS)[:2])
        answer.lose(Code.WORKER_LOST, "lost")
    assert answer.phase is Phase.ENDED
    assert answer.error is not None


@pytest.mark.parametrize("visible", [False, True])
def test_what_waits_for_a_slow_reader_is_bounded(visible: bool) -> None:
    answer = Answer(max_buffered=100)
    frames = attempt(1, [b"x" * 60, b"y" * 60, b"z"])
    feed(answer, frames[:3])
    answer.visible = visible
    feed(answer, frames[3:])
    assert answer.take() == b""
    assert answer.error is not None
    assert answer.error.code is (Code.SLOW_READER if visible else Code.RESPONSE_TOO_LARGE)


def test_the_first_failure_counts() -> None:
    answer = Answer(LIMIT)
    answer.fail(Code.DEADLINE_EXCEEDED, "late")
    answer.fail(Code.CANCELLED, "left")
    assert answer.error is not None
    assert answer.error.code is Code.DEADLINE_EXCEEDED


def test_frames_before_any_worker_was_accepted_change_nothing() -> None:
    answer = Answer(LIMIT)
    assert feed(answer, attempt(1, TOKENS)[1:]) == [Step.NOTHING] * (len(TOKENS) + 2)
    assert answer.phase is Phase.QUEUED
    assert answer.take() == b""
