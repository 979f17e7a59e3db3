"""The replay buffer: what it has, what it lets go, and that it never holds more than it may."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.protocol.control import WINDOW_BYTES
from headrace.worker.options import WorkerLimits
from headrace.worker.queue.retransmit_buffer import RetransmitBuffer


def replay(per_request: int = 100, total: int = 1000, seconds: float = 60.0) -> RetransmitBuffer:
    return RetransmitBuffer(per_request=per_request, total=total, seconds=seconds)


def test_frames_are_sent_again_from_any_place() -> None:
    kept = replay()
    kept.begin("a", "edge", 1)
    for frame in (b"0", b"1", b"2"):
        kept.add("a", frame)
    assert kept.since("a", 1, 0) == [b"0", b"1", b"2"]
    assert kept.since("a", 1, 2) == [b"2"]
    assert kept.since("a", 1, 3) == [], "nothing is missing"
    assert kept.since("a", 1, 9) == []


def test_what_is_not_there_is_told_from_what_is_not_missing() -> None:
    kept = replay()
    kept.begin("a", "edge", 2)
    assert kept.since("b", 1, 0) is None
    assert kept.since("a", 1, 0) is None, "another attempt"
    assert kept.since("a", 2, 0) == []


def test_a_new_attempt_takes_the_place_of_the_old_one() -> None:
    kept = replay()
    kept.begin("a", "edge", 1)
    kept.add("a", b"old")
    kept.begin("a", "edge", 2)
    assert kept.size == 0
    assert kept.since("a", 1, 0) is None


def test_a_long_answer_loses_its_beginning() -> None:
    kept = replay(per_request=3)
    kept.begin("a", "edge", 1)
    for frame in (b"0", b"1", b"2", b"3"):
        kept.add("a", frame)
    assert kept.since("a", 1, 0) is None
    assert kept.since("a", 1, 1) == [b"1", b"2", b"3"]


def test_a_frame_that_is_too_large_alone_is_not_kept() -> None:
    kept = replay(per_request=3)
    kept.begin("a", "edge", 1)
    kept.add("a", b"long")
    assert kept.since("a", 1, 0) is None
    assert kept.since("a", 1, 1) == []
    assert kept.size == 0


def test_what_ended_is_kept_for_a_while() -> None:
    kept = replay(seconds=10)
    kept.begin("a", "edge", 1)
    kept.add("a", b"0")
    kept.expire(1000.0)
    assert kept.since("a", 1, 0) == [b"0"], "it runs still"
    kept.end("a", 1000.0, complete=True)
    kept.expire(1009.9)
    assert kept.since("a", 1, 0) == [b"0"]
    kept.expire(1010.0)
    assert kept.since("a", 1, 0) is None
    assert len(kept) == 0


def test_at_the_bound_of_all_the_longest_ended_goes_first() -> None:
    kept = replay(total=4)
    for name in "abc":
        kept.begin(name, "edge", 1)
        kept.add(name, b"1")
    kept.end("b", 1.0, complete=True)
    kept.end("a", 2.0, complete=True)
    kept.add("c", b"22")
    assert kept.since("b", 1, 0) is None
    assert kept.since("a", 1, 0) == [b"1"]
    assert kept.since("c", 1, 0) == [b"1", b"22"]


def test_at_the_bound_of_all_a_running_one_loses_its_own_beginning() -> None:
    kept = replay(total=3)
    kept.begin("a", "edge", 1)
    kept.begin("b", "edge", 1)
    kept.add("a", b"1")
    for frame in (b"1", b"2", b"3"):
        kept.add("b", frame)
    assert kept.since("a", 1, 0) == [b"1"]
    assert kept.since("b", 1, 0) is None
    assert kept.since("b", 1, 1) == [b"2", b"3"]


def test_a_minute_without_a_link_loses_nothing() -> None:
    """50 streams of 50 tokens/s, each token an event and frame of its own."""
    limits = WorkerLimits()
    kept = replay(limits.replay_bytes, limits.replay_total_bytes, limits.replay_seconds)
    seconds, rate, frame = 60, 50, b"x" * 300
    names = [str(number) for number in range(50)]
    for name in names:
        kept.begin(name, "edge", 1)
        for _ in range(seconds * rate):
            kept.add(name, frame)
        kept.end(name, 0.0, complete=True)
    kept.expire(59.9)
    for name in names:
        assert len(kept.since(name, 1, 0) or ()) == seconds * rate
    assert kept.size < limits.replay_total_bytes / 5


def test_what_may_be_on_the_way_is_kept() -> None:
    limits = WorkerLimits()
    read_at_once = 512 * 1024
    frames = (WINDOW_BYTES + read_at_once) // 250
    kept = replay(limits.replay_bytes, limits.replay_total_bytes)
    kept.begin("a", "edge", 1)
    for _ in range(frames):
        kept.add("a", b"x" * 280)
    assert len(kept.since("a", 1, 0) or ()) == frames


steps = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.sampled_from("abc"), st.integers(1, 3)),
        st.tuples(st.just("add"), st.sampled_from("abc"), st.integers(0, 12)),
        st.tuples(st.just("end"), st.sampled_from("abc"), st.integers(0, 3)),
        st.tuples(st.just("expire"), st.just(""), st.integers(0, 100)),
    ),
    max_size=60,
)


@given(steps)
def test_bounds_hold_and_what_is_sent_again_is_right(steps: list[tuple[str, str, int]]) -> None:
    kept = replay(per_request=20, total=40)
    sent: dict[str, tuple[int, list[bytes]]] = {}
    now = 0.0
    for verb, name, number in steps:
        if verb == "begin":
            kept.begin(name, "edge", number)
            sent[name] = number, []
        elif verb == "add" and name in sent and kept.find(name):
            frame = bytes([number]) * number
            kept.add(name, frame)
            sent[name][1].append(frame)
        elif verb == "end":
            kept.end(name, now, complete=True)
        else:
            now += number
            kept.expire(now)
        assert kept.size <= 40
        for name_, (attempt, frames) in sent.items():
            for start in range(len(frames) + 1):
                again = kept.since(name_, attempt, start)
                assert again is None or again == frames[start:]
