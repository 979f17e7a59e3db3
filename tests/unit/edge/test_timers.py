"""What is due for a live request as time goes by, and the table of live requests."""

from typing import Any, cast

import msgspec
import pytest

from headrace.edge.dispatch.request import LiveRequest, LiveTable
from headrace.edge.dispatch.timers import QUIET_SECONDS, REDELIVERY_SECONDS, Due, due
from headrace.edge.options import EdgeOptions
from headrace.edge.wait_policy import DEFAULT, FAIL, HOLD, Keepalive, WaitPolicy
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Accepted, Chunk, Head
from headrace.protocol.names import RequestId, Slug
from headrace.protocol.plan import ModelPhase

OPTIONS = EdgeOptions(secret_file="x", deadline_seconds=100, worker_silence_seconds=15)


def request(**changes: Any) -> LiveRequest:
    values: dict[str, Any] = {
        "id": RequestId("0" * 32),
        "endpoint": Endpoint.CHAT,
        "model": Slug("m"),
        "stream": True,
        "body": b"{}",
        "tenant": "t",
        "lane": "high",
        "trace": "",
        "now": 1000.0,
        "wall": 0.0,
        "deadline_seconds": OPTIONS.deadline_seconds,
        "max_buffered": 1000,
    }
    return LiveRequest(**values | changes)


def running(**changes: Any) -> LiveRequest:
    live = request(**changes)
    live.answer.on_frame(Accepted(1, 0, "w" * 16, "north"))
    live.held = False
    return live


def test_a_fresh_request_needs_nothing() -> None:
    assert due(request(), 1000.5, 0.0, OPTIONS) is Due.NOTHING


def test_a_held_stream_is_released_with_a_comment() -> None:
    assert due(request(), 1002.5, 0.0, OPTIONS) == Due.RELEASE | Due.COMMENT


def test_a_whole_answer_gets_no_comment() -> None:
    assert due(request(stream=False), 1050, 0.0, OPTIONS) is Due.NOTHING


def test_comments_come_in_their_time_and_not_beside_tokens() -> None:
    live = running()
    assert due(live, 1004, 1004, OPTIONS) == Due.RESUME
    assert Due.COMMENT in due(live, 1006, 1006, OPTIONS)
    live.heard = 1005.0
    assert due(live, 1006, 1006, OPTIONS) is Due.NOTHING
    live.heard, live.commented = 1000.0, 1005.5
    assert Due.COMMENT not in due(live, 1006, 1006, OPTIONS)


def test_time_is_up() -> None:
    assert due(request(), 1100, 1100, OPTIONS) is Due.DEADLINE
    assert due(running(), 1100, 1100, OPTIONS) is Due.DEADLINE


def test_a_quiet_request_asks_now_and_then() -> None:
    live = running()
    live.commented = 1004.0
    assert due(live, 1004, 1004, OPTIONS) is Due.RESUME
    live.resumed = 1004.0
    assert due(live, 1005, 1005, OPTIONS) is Due.NOTHING
    assert Due.RESUME in due(live, 1004.1 + QUIET_SECONDS, 1007, OPTIONS)


def test_a_worker_is_lost_when_neither_frames_nor_heartbeats_come() -> None:
    live = running()
    assert due(live, 1015.5, 0.0, OPTIONS) is Due.LOST
    assert Due.LOST not in due(live, 1015.5, 1014.0, OPTIONS)
    live.heard = 1014.0
    assert Due.LOST not in due(live, 1015.5, 0.0, OPTIONS)


def test_a_message_that_was_given_out_and_never_heard_of_again_is_published_anew() -> None:
    live = request()
    live.commented = 1030.0
    assert due(live, 1020 + REDELIVERY_SECONDS + 1, 0.0, OPTIONS) is Due.RELEASE | Due.COMMENT
    live.held = False
    live.delivered_at = 1020.0
    assert due(live, 1020 + REDELIVERY_SECONDS - 1, 0.0, OPTIONS) is Due.NOTHING
    assert due(live, 1020 + REDELIVERY_SECONDS + 1, 0.0, OPTIONS) is Due.REPUBLISH


def test_a_silent_worker_is_asked_until_another_one_begins() -> None:
    live = running()
    live.answer.lose(Code.WORKER_LOST, silent=True)
    live.commented = 1010.0
    assert due(live, 1010, 0.0, OPTIONS) is Due.RESUME
    live.answer.lose(Code.WORKER_LOST)  # it says itself that it is over
    assert due(live, 1010, 0.0, OPTIONS) is Due.NOTHING


def test_a_client_that_does_not_read_is_cut_off() -> None:
    live = running()
    live.heard = live.commented = live.taken_at = 1010.0
    live.answer.on_frame(Chunk(1, 1, b"x"))
    assert due(live, 1012, 1012, OPTIONS) is Due.NOTHING
    live.taken_at = 1012 - OPTIONS.slow_reader_seconds - 1
    assert due(live, 1012, 1012, OPTIONS) is Due.SLOW


def test_a_client_that_does_not_take_the_rest_is_cut_off() -> None:
    """Its answer has ended, well or not, and it would be held for as long as its connection is."""
    live = running()
    live.answer.fail(Code.DEADLINE_EXCEEDED, "late")
    live.heard = live.taken_at = 1010.0
    late = 1010 + OPTIONS.slow_reader_seconds + 1
    assert due(live, late, 0.0, OPTIONS) is Due.NOTHING, "nobody writes to it"
    live.task = cast("Any", object())
    assert due(live, late - 2, 0.0, OPTIONS) is Due.NOTHING
    assert due(live, late, 0.0, OPTIONS) is Due.SLOW


COLD, FAILED = ModelPhase.COLD, ModelPhase.FAILED


@pytest.mark.parametrize(
    ("patience", "after", "phase", "what"),
    [
        (DEFAULT, 50, COLD, Due.NOTHING),
        (DEFAULT, 1, FAILED, Due.FAILED),
        (DEFAULT, 1, None, Due.REMOVED),
        (HOLD, 50, FAILED, Due.NOTHING),
        (HOLD, 1, None, Due.REMOVED),
        (FAIL, 0.1, COLD, Due.NOT_READY),
        (FAIL, 50, ModelPhase.READY, Due.NOTHING),
        (WaitPolicy(10), 9, COLD, Due.NOTHING),
        (WaitPolicy(10), 11, ModelPhase.READY, Due.WAITED),
    ],
)
def test_nobody_waits_in_vain(
    patience: WaitPolicy, after: float, phase: ModelPhase | None, what: Due
) -> None:
    live = request(stream=False, patience=patience)
    assert due(live, 1000 + after, 0.0, OPTIONS, phase) is what
    served = running(stream=False, patience=patience)
    served.heard = served.resumed = 1000 + after
    assert due(served, 1000 + after, 0.0, OPTIONS, phase) is Due.NOTHING


def test_who_has_been_served_before_does_not_run_out_of_patience() -> None:
    live = request(stream=False, patience=WaitPolicy(10))
    live.started = 1001.0
    assert due(live, 1020, 0.0, OPTIONS, COLD) is Due.NOTHING


def test_a_client_that_bears_nothing_gets_nothing() -> None:
    live = request(keepalive=Keepalive.OFF)
    assert due(live, 1050, 0.0, OPTIONS) is Due.NOTHING
    assert due(request(keepalive=Keepalive.CHUNK), 1050, 0.0, OPTIONS) == Due.RELEASE | Due.COMMENT


def test_nothing_is_due_once_it_has_ended() -> None:
    live = running()
    live.answer.on_frame(Head(1, 1, 200, "text/event-stream"))
    live.answer.fail(Code.CANCELLED, "left")
    assert due(live, 5000, 0.0, OPTIONS) is Due.NOTHING


def test_the_table_is_bounded_and_counts_tenants() -> None:
    table = LiveTable(2)
    one, two = request(), request(id=RequestId("1" * 32))
    table.add(one)
    table.add(two)
    assert table.in_flight("t") == 2
    with pytest.raises(HeadraceError, match="overloaded"):
        table.add(request(id=RequestId("2" * 32)))
    table.remove(one)
    table.remove(one)
    assert (len(table), table.in_flight("t")) == (1, 1)
    assert table.get(two.id) is two
    assert table.get(one.id) is None
    table.remove(two)
    assert table.in_flight("t") == 0


def test_every_limit_can_be_configured() -> None:
    named = {field.name for field in msgspec.structs.fields(EdgeOptions)}
    assert {"max_live", "max_buffered_bytes", "max_answer_bytes", "max_body_bytes"} <= named
