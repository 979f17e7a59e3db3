"""The edge's state machine of one request, alone: order, duplicates, gaps, attempts, bounds."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.edge.dispatch.response_assembler import (
    MAX_LOSSES,
    MAX_PAST,
    RequestPhase,
    ResponseAssembler,
    Step,
)
from headrace.edge.dispatch.transcript import Transcript
from headrace.protocol.control import WINDOW_BYTES
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


def feed(answer: ResponseAssembler, frames: list[Frame]) -> list[Step]:
    return [answer.on_frame(frame) for frame in frames]


def test_an_undisturbed_answer() -> None:
    answer = ResponseAssembler(LIMIT)
    feed(answer, attempt(1, [b"a", b"b", b"c"]))
    assert answer.phase is RequestPhase.ENDED
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
    answer = ResponseAssembler(LIMIT)
    answer.on_frame(frames[0])
    seen = b""
    for index in noise:
        answer.on_frame(frames[index])
        seen += answer.take()
        assert b"".join(TOKENS).startswith(seen)
    feed(answer, frames[answer.next_seq :])
    seen += answer.take()
    assert seen == b"".join(TOKENS)
    assert answer.phase is RequestPhase.ENDED


def test_a_gap_asks_for_what_is_missing() -> None:
    frames = attempt(1, TOKENS)
    answer = ResponseAssembler(LIMIT)
    assert feed(answer, frames[:3]) == [Step.NOTHING, Step.WAKE, Step.WAKE]
    assert answer.on_frame(frames[4]) is Step.RESUME
    assert answer.next_seq == 3
    feed(answer, frames[3:])
    assert answer.take() == b"".join(TOKENS)


def test_frames_of_a_lost_attempt_are_dropped_once_another_has_begun() -> None:
    """A whole answer, of which the client has seen nothing."""
    first, second = attempt(1, [b"x", b"y"]), attempt(17, TOKENS)
    answer = ResponseAssembler(LIMIT)
    feed(answer, first[:3])
    feed(answer, second[:4])
    assert feed(answer, first[3:]) == [Step.STALE, Step.NOTHING]
    feed(answer, second[4:])
    assert answer.take() == b"".join(TOKENS)
    assert answer.worker == "worker0000000017"
    assert answer.losses == 1


def test_a_stream_goes_on_exactly_where_it_stands() -> None:
    answer = ResponseAssembler(LIMIT, Transcript())
    feed(answer, attempt(1, TOKENS)[:4])
    answer.lose(Code.WORKER_LOST)
    sent = len(b"".join(TOKENS[:2]))
    assert answer.after == sent
    for wrong in (0, sent - 1, sent + 1):
        assert answer.on_frame(Accepted(17, 0, "w" * 16, "north", wrong)) is Step.REFUSE
    assert answer.on_frame(Accepted(33, 0, "v" * 16, "north", sent)) is Step.NOTHING
    feed(answer, attempt(33, TOKENS[2:])[1:])
    assert answer.phase is RequestPhase.ENDED
    assert answer.error is None
    assert answer.take() == b"".join(TOKENS)


def test_a_stream_that_runs_takes_no_second_attempt() -> None:
    answer = ResponseAssembler(LIMIT, Transcript())
    feed(answer, attempt(1, TOKENS)[:4])
    for after in (0, answer.after):
        assert answer.on_frame(Accepted(2, 0, "w" * 16, "north", after)) is Step.REFUSE
    feed(answer, attempt(1, TOKENS)[4:])
    assert answer.take() == b"".join(TOKENS)


def test_a_silent_attempt_that_is_heard_again_goes_on() -> None:
    frames = attempt(1, TOKENS)
    answer = ResponseAssembler(LIMIT, Transcript())
    feed(answer, frames[:4])
    answer.lose(Code.WORKER_LOST, silent=True)
    assert answer.phase is RequestPhase.QUEUED
    assert answer.on_frame(frames[6]) is Step.RESUME
    assert answer.on_frame(frames[4]) is Step.REVIVED
    assert (answer.phase, answer.losses) == (RequestPhase.RUNNING, 0)
    feed(answer, frames[5:])
    assert answer.take() == b"".join(TOKENS)


def test_a_silent_attempt_does_not_go_on_once_another_has_begun() -> None:
    frames = attempt(1, TOKENS)
    answer = ResponseAssembler(LIMIT, Transcript())
    feed(answer, frames[:4])
    answer.lose(Code.WORKER_LOST, silent=True)
    answer.on_frame(Accepted(17, 0, "v" * 16, "north", answer.after))
    assert answer.on_frame(frames[4]) is Step.STALE
    assert answer.worker_of(1) == "worker0000000001"
    assert answer.take() == b"".join(TOKENS[:2])


def test_frames_of_an_attempt_that_nobody_has_told_of_are_asked_for() -> None:
    answer = ResponseAssembler(LIMIT, Transcript())
    assert answer.on_frame(attempt(1, TOKENS)[2]) is Step.UNKNOWN
    feed(answer, attempt(1, TOKENS))
    assert answer.take() == b"".join(TOKENS)


def test_an_attempt_that_begins_after_the_end_is_refused() -> None:
    answer = ResponseAssembler(LIMIT)
    feed(answer, attempt(1, TOKENS))
    assert answer.on_frame(attempt(2, TOKENS)[0]) is Step.REFUSE
    assert answer.on_frame(attempt(1, TOKENS)[3]) is Step.NOTHING
    assert answer.error is None


def test_a_retryable_failure_waits_for_another_worker() -> None:
    answer = ResponseAssembler(LIMIT, Transcript())
    feed(answer, attempt(1, TOKENS)[:4])
    assert answer.on_frame(Fail(1, 4, Code.ENGINE_FAILED, "died", retryable=True)) is Step.LOST
    assert answer.phase is RequestPhase.QUEUED
    assert answer.error is None
    assert answer.on_frame(attempt(1, TOKENS)[4]) is Step.NOTHING, "it has said that it is over"


def test_a_failure_that_no_other_worker_could_mend_ends_the_answer() -> None:
    answer = ResponseAssembler(LIMIT, Transcript())
    feed(answer, attempt(1, TOKENS)[:4])
    assert answer.on_frame(Fail(1, 4, Code.NOT_CONTINUED, "no", retryable=False)) is Step.WAKE
    assert answer.error is not None
    assert answer.error.code is Code.NOT_CONTINUED


def test_a_request_that_loses_worker_after_worker_is_given_up() -> None:
    answer = ResponseAssembler(LIMIT)
    for number in range(1, MAX_LOSSES + 1):
        assert answer.phase is RequestPhase.QUEUED
        feed(answer, attempt(number, TOKENS)[:2])
        answer.lose(Code.WORKER_LOST)
    assert answer.phase is RequestPhase.ENDED
    assert answer.error is not None
    assert answer.error.code is Code.GIVEN_UP


def test_a_worker_that_had_to_go_is_not_the_requests_fault() -> None:
    answer = ResponseAssembler(LIMIT)
    for number in range(1, 3 * MAX_LOSSES):
        feed(answer, attempt(number, TOKENS)[:2])
        answer.on_frame(Fail(number, 2, Code.WORKER_DRAINED, "walltime", retryable=True))
        assert answer.phase is RequestPhase.QUEUED


def test_what_a_worker_may_send_grows_with_what_the_client_takes() -> None:
    answer = ResponseAssembler(LIMIT, Transcript())
    feed(answer, attempt(1, TOKENS)[:4])
    assert answer.credit == WINDOW_BYTES
    taken = len(answer.take())
    assert answer.credit == WINDOW_BYTES + taken
    answer.lose(Code.WORKER_LOST)
    answer.on_frame(Accepted(17, 0, "v" * 16, "north", taken))
    assert answer.credit == WINDOW_BYTES, "each attempt counts its own"


@pytest.mark.parametrize("stream", [False, True])
def test_what_waits_for_a_slow_reader_is_bounded(stream: bool) -> None:
    answer = ResponseAssembler(100, Transcript() if stream else None)
    feed(answer, attempt(1, [b"x" * 60, b"y" * 60, b"z"]))
    assert answer.take() == b""
    assert answer.error is not None
    assert answer.error.code is (Code.SLOW_READER if stream else Code.RESPONSE_TOO_LARGE)


def test_a_client_that_does_not_read_is_cut_off_even_when_all_is_there() -> None:
    answer = ResponseAssembler(LIMIT, Transcript())
    feed(answer, attempt(1, TOKENS))
    answer.cut_off()
    assert answer.error is not None
    assert answer.error.code is Code.SLOW_READER
    answer = ResponseAssembler(LIMIT, Transcript())
    answer.fail(Code.DEADLINE_EXCEEDED, "late")
    answer.cut_off()
    assert answer.error is not None
    assert answer.error.code is Code.DEADLINE_EXCEEDED


def test_the_first_failure_counts() -> None:
    answer = ResponseAssembler(LIMIT)
    answer.fail(Code.DEADLINE_EXCEEDED, "late")
    answer.fail(Code.CANCELLED, "left")
    assert answer.error is not None
    assert answer.error.code is Code.DEADLINE_EXCEEDED


def test_frames_before_any_worker_was_accepted_change_nothing() -> None:
    answer = ResponseAssembler(LIMIT)
    assert feed(answer, attempt(1, TOKENS)[1:]) == [Step.UNKNOWN] * (len(TOKENS) + 2)
    assert answer.phase is RequestPhase.QUEUED
    assert answer.take() == b""


def test_a_worker_of_another_version_ends_the_request_at_once() -> None:
    """Its message is thrown away: nobody else would be asked before the deadline."""
    answer = ResponseAssembler(LIMIT, Transcript())
    fail = Fail(1, 0, Code.UNSUPPORTED_VERSION, "It speaks 2.", retryable=False)
    assert answer.on_frame(fail) is Step.WAKE
    assert answer.error is not None
    assert answer.error.code is Code.UNSUPPORTED_VERSION
    answer = ResponseAssembler(LIMIT, Transcript())
    feed(answer, attempt(1, TOKENS)[:4])
    answer.on_frame(msgspec.structs.replace(fail, attempt=17))
    assert answer.error is None, "not while another one serves it"


def test_attempts_that_were_refused_are_not_remembered_without_bound() -> None:
    answer = ResponseAssembler(LIMIT, Transcript())
    feed(answer, attempt(1, TOKENS)[:4])
    for number in range(2, 10 * MAX_PAST):
        assert answer.on_frame(Accepted(number, 0, "w" * 16, "north", 0)) is Step.REFUSE
    known = [number for number in range(10 * MAX_PAST) if answer.worker_of(number)]
    assert len(known) == MAX_PAST + 1, "and the one that runs"
