"""What a person sees: the worker that serves a stream is found, killed, and the stream goes on."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from headrace.cli.demo.processes import descendants
from tests.support.running_demo import Demo, running

pytestmark = [pytest.mark.openssh, pytest.mark.timeout(600)]

LOAD_SECONDS = 400.0
"""Two vLLMs at once, on two cores."""
QUESTION = "Tell me of the rivers of Europe, one after the other, and of the towns on them."


class Seen(msgspec.Struct):
    """A stream as its reader has it so far."""

    text: str = ""
    chunks: int = 0
    finish: str | None = None
    usage: int = 0


def client(demo: Demo) -> openai.OpenAI:
    info = demo.info()
    return openai.OpenAI(base_url=info["base_url"], api_key=info["api_key"], max_retries=0)


def ready(asking: openai.OpenAI) -> int:
    """How many workers serve."""
    (model,) = asking.models.list().data
    return int(model.headrace["workers"])  # type: ignore[attr-defined]


def read(demo: Demo, seen: Seen, tokens: int) -> None:
    """Ask as anybody would, and keep what comes in `seen`."""
    stream = client(demo).chat.completions.create(
        model=demo.info()["model"],
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=tokens,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        if chunk.usage:
            seen.usage = chunk.usage.completion_tokens
        for choice in chunk.choices:
            seen.text += choice.delta.content or ""
            seen.finish = choice.finish_reason or seen.finish
        seen.chunks += 1


def busy(demo: Demo) -> list[dict[str, Any]]:
    """The workers that have a request in work, as `headrace top` says."""
    headrace = str(Path(sys.executable).with_name("headrace"))
    argv = [headrace, "top", "--web", str(demo.folder / "web"), "--json"]
    (model,) = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
    return [each for each in model["workers"] if each["running"]]


def until(true: Callable[[], Any], seconds: float, every: float = 0.02) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(every)
    return found


@contextlib.contextmanager
def engines_stopped(demo: Demo) -> Iterator[None]:
    """The stream stands still, so that it cannot end before its worker has been found."""
    workers = [pid for part, pid in demo.info()["pids"].items() if part.startswith("worker")]
    engines = [engine for worker in workers for engine in descendants(worker)]
    assert len(engines) >= len(workers)
    for pid in engines:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in engines:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def workers_of_last(demo: Demo) -> list[str]:
    """Who lost the last request, and who ended it, as the edge's log says."""
    lines = [json.loads(each) for each in (demo.folder / "logs/edge.log").read_text().splitlines()]
    last = [each for each in lines if each["action"] == "finished"][-1]["request"]
    told = {"attempt_lost", "finished"}
    return [each["worker"] for each in lines if each["action"] in told and each["request"] == last]


def kill_its_worker(demo: Demo, tokens: int) -> Seen:
    """Read a stream whose worker is killed in the midst of it."""
    seen = Seen()
    until(lambda: not busy(demo), 30)  # of the request before, too, the workers have told
    reader = threading.Thread(target=read, args=(demo, seen, tokens))
    reader.start()
    until(lambda: seen.chunks > 5, 60)
    with engines_stopped(demo):
        (worker,) = until(lambda: busy(demo), 30)
        os.kill(demo.pid(worker["node"]), signal.SIGKILL)
        had = seen.chunks
    reader.join(120)
    assert not reader.is_alive()
    assert seen.chunks > had + 5, "it was over too soon to prove anything"
    # The client has its answer before the edge has written so.
    until(lambda: len(workers_of_last(demo)) == 2, 30)
    first, second = workers_of_last(demo)
    assert first == worker["worker"] != second
    return seen


@pytest.fixture
def demo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Demo]:
    with running(tmp_path, "--engine", request.param, "--workers", "2") as demo:
        asking = client(demo)
        until(lambda: ready(asking) == 2, LOAD_SECONDS, 0.5)
        demo.wait_for_line("Ctrl-C ends everything.")  # its own example has been answered
        yield demo


@pytest.mark.parametrize("demo", ["llamacpp"], indirect=True)
def test_a_stream_of_llama_cpp_goes_on_where_its_worker_is_killed(demo: Demo) -> None:
    seen = kill_its_worker(demo, 700)
    assert seen.finish in {"stop", "length"}
    assert 0 < seen.usage <= 700


@pytest.mark.vllm
@pytest.mark.parametrize("demo", ["vllm"], indirect=True)
def test_with_vllm_the_text_is_the_same_as_without_the_kill(demo: Demo) -> None:
    unbroken = Seen()
    read(demo, unbroken, 300)
    broken = kill_its_worker(demo, 300)
    assert broken.text == unbroken.text
    assert (broken.finish, broken.usage) == (unbroken.finish, unbroken.usage)
