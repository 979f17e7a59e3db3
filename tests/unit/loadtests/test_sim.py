"""The simulated engine's parts: options, what it makes of bodies, events, and the batch."""

import asyncio
import json
from typing import Any

import pytest

from loadtests.sim import bodies
from loadtests.sim.batch import Batch
from loadtests.sim.events import Events
from loadtests.sim.options import parse
from loadtests.words import expected_text

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


def task(chat: bool = True, **more: Any) -> bodies.Task:
    return bodies.task({**BODY, "prompt": "hello", **more}, chat=chat, default_tokens=30)


def dechunked(data: bytes) -> tuple[bytes, bool]:
    """What HTTP chunks hold, and whether the last one is there."""
    held = []
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        held.append(rest[:length])
        assert rest[length : length + 2] == b"\r\n"
        data = rest[length + 2 :]
        if not length:
            assert not data
            return b"".join(held), True
    return b"".join(held), False


def everything(task: bodies.Task) -> list[str]:
    events = Events(task, "m")
    data = events.first() + b"".join(events.token() for _ in range(task.count))
    assert events.left == 0
    text, ended = dechunked(data)
    assert ended
    return [
        event.removeprefix("data: ") for event in text.decode().removesuffix("\n\n").split("\n\n")
    ]


def test_the_environment_gives_defaults_and_the_command_line_has_the_last_word() -> None:
    environ = {"SIM_TOKENS": "7", "SIM_DELAY_MS": "2.5"}
    options = parse(["--port", "0"], environ)
    assert (options.tokens, options.delay_ms, options.slots) == (7, 2.5, 256)
    assert parse(["--uds", "s", "--tokens", "9"], environ).tokens == 9
    assert (parse(["--uds", "s"], {}).tokens, parse(["--uds", "s"], {}).delay_ms) == (30, 0)


def test_an_engine_must_listen_somewhere() -> None:
    with pytest.raises(SystemExit):
        parse([], {})


@pytest.mark.parametrize(
    ("limits", "count", "finish"),
    [
        ({}, 30, "stop"),
        ({"max_tokens": None}, 30, "stop"),
        ({"max_tokens": 3}, 3, "length"),
        ({"max_tokens": 3, "max_completion_tokens": 2}, 2, "length"),
    ],
)
def test_how_many_tokens(limits: dict[str, Any], count: int, finish: str) -> None:
    asked = task(**limits)
    assert (asked.count, asked.finish) == (count, finish)


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 0}, {"max_tokens": "3"}, {"max_tokens": 10**9}, {"messages": 3}]
)
def test_what_is_refused(wrong: dict[str, Any]) -> None:
    body = {**BODY, **wrong}
    if wrong.get("messages"):
        body["continue_final_message"] = True
    with pytest.raises(bodies.RequestError) as refused:
        bodies.task(body, chat=True, default_tokens=30)
    assert json.loads(refused.value.body)["error"]["code"] == 400


def test_another_model_is_not_found() -> None:
    with pytest.raises(bodies.RequestError) as refused:
        bodies.read(b'{"model": "other"}', "m")
    error = json.loads(refused.value.body)["error"]
    assert (error["code"], error["param"], error["type"]) == (404, "model", "NotFoundError")


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("count", [1, 2, 70])
@pytest.mark.parametrize("chat", [False, True])
def test_events_hold_every_token(chat: bool, count: int, ids: bool) -> None:
    asked = task(chat, max_tokens=count, return_token_ids=ids)
    *events, done = everything(asked)
    assert done == "[DONE]"
    choices = [json.loads(event)["choices"][0] for event in events]
    if chat:
        first, *choices = choices
        assert first["delta"] == {"role": "assistant", "content": ""}
        text = "".join(choice["delta"]["content"] for choice in choices)
        assert text == expected_text(BODY, count)
    else:
        text = "".join(choice["text"] for choice in choices)
        assert text == expected_text({"prompt": "hello"} | BODY, count)
    assert len(choices) == count
    reasons = [choice["finish_reason"] for choice in choices]
    assert reasons == [None] * (count - 1) + ["length"]
    assert all((choice["token_ids"] is not None) == ids for choice in choices)


def test_usage_comes_last_and_only_when_asked_for() -> None:
    *_, usage, done = everything(task(max_tokens=3, stream_options={"include_usage": True}))
    last = json.loads(usage)
    assert (last["choices"], done) == ([], "[DONE]")
    assert last["usage"]["completion_tokens"] == 3
    assert last["usage"]["total_tokens"] == 3 + last["usage"]["prompt_tokens"]
    assert "usage" not in "".join(everything(task(max_tokens=3)))


class Counted:
    """A sequence that counts its steps."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.steps: list[float] = []

    def advance(self, count: int) -> None:
        self.left = max(0, self.left - count)
        self.steps.append(asyncio.get_running_loop().time())


async def settle(batch: Batch) -> None:
    async with asyncio.timeout(5):
        while batch.running or batch.waiting:  # noqa: ASYNC110  # it tells nobody when it is done
            await asyncio.sleep(0)


async def test_more_than_the_slots_wait_in_order() -> None:
    batch = Batch(slots=2, delay=0, coalesce=1)
    sequences = [Counted(3) for _ in range(5)]
    for sequence in sequences:
        batch.submit(sequence)
    assert (batch.running, batch.waiting) == (2, 3)
    await settle(batch)
    assert [len(sequence.steps) for sequence in sequences] == [3] * 5
    ends = [sequence.steps[-1] for sequence in sequences]
    assert ends == sorted(ends)
    assert batch.generated == 15


async def test_an_aborted_sequence_makes_no_more_tokens_and_frees_its_slot() -> None:
    batch = Batch(slots=1, delay=0, coalesce=1)
    first, second = Counted(1000), Counted(2)
    batch.submit(first)
    batch.submit(second)
    await asyncio.sleep(0)
    batch.abort(first)
    batch.abort(first)
    assert (batch.running, batch.waiting) == (1, 0)
    await settle(batch)
    assert first.left > 0
    assert second.left == 0


async def test_steps_keep_their_pace_without_drift() -> None:
    batch = Batch(slots=8, delay=0.01, coalesce=1)
    sequence = Counted(20)
    batch.submit(sequence)
    await settle(batch)
    took = sequence.steps[-1] - sequence.steps[0]
    assert 0.12 < took < 2


async def test_tokens_may_share_a_step() -> None:
    batch = Batch(slots=8, delay=0, coalesce=8)
    sequence = Counted(20)
    batch.submit(sequence)
    await settle(batch)
    assert len(sequence.steps) == 3
    assert batch.generated == 20
