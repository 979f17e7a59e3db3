"""The guard itself: what it must find, and what it must leave alone."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.processes import Guard, alive

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


def test_a_child_is_found_and_killed() -> None:
    guard = Guard()
    process = subprocess.Popen(SLEEP)
    assert {p.pid for p in guard.left_behind(grace=0)} == {process.pid}
    assert process.wait(5) == -9
    assert not guard.left_behind(grace=0)


def test_a_process_that_cut_itself_loose_is_found() -> None:
    guard = Guard()
    loose = f"subprocess.Popen({SLEEP!r}, start_new_session=True, stdout=2)"
    start = f"import subprocess; print({loose}.pid)"
    printed = subprocess.run([sys.executable, "-c", start], check=True, stdout=subprocess.PIPE)
    assert {p.pid for p in guard.left_behind(grace=0)} == {int(printed.stdout)}


def test_a_process_that_hides_its_mark_is_found_by_descent() -> None:
    guard = Guard()
    process = subprocess.Popen(SLEEP, env={})
    assert {p.pid for p in guard.left_behind(grace=0)} == {process.pid}
    process.wait()


def test_what_ran_before_and_what_was_adopted_stay(child: subprocess.Popen[bytes]) -> None:
    guard = Guard()
    later = subprocess.Popen(SLEEP)
    guard.adopt(later.pid)
    assert not guard.left_behind(grace=0)
    assert child.poll() is None
    assert later.poll() is None
    later.kill()
    later.wait()


def test_one_that_goes_within_the_grace_is_no_leftover() -> None:
    guard = Guard()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.2)"])
    assert not guard.left_behind(grace=10)
    assert process.wait(0) == 0


def test_a_process_that_ended_is_not_alive_though_nobody_asked_for_its_status() -> None:
    process = subprocess.Popen(["true"])
    deadline = time.monotonic() + 5
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(process.pid)
    process.wait()
