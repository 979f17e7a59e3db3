"""How a stream is accounted whose client leaves: with all of its answer, or before."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headrace.edge.api import inference
from headrace.edge.api.inference import CLIENT_LEFT, ROWS, Inference
from headrace.edge.dispatch.request import LiveRequest
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code
from headrace.protocol.frames import Accepted, Chunk, End, Fail, Frame, Head, Timings, Usage
from headrace.protocol.names import RequestId, Slug
from tests.model.nothing import Nothing

TOKEN = b'data: {"choices":[{"delta":{"content":"data: [DONE]"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
END = End(1, 3, Usage(11, 22), Timings())


class Stage:
    """The endpoint with a request whose worker has begun, and a client that reads all at once."""

    def __init__(self) -> None:
        self.cancels = 0
        self.accounted: list[tuple[int, str]] = []
        self.read = b""
        self.request = LiveRequest(
            id=RequestId("0" * 32), endpoint=Endpoint.CHAT, model=Slug("m"), stream=True,
            body=b"{}", tenant="t", lane="high", trace="", now=0.0, wall=0.0,
            deadline_seconds=60.0, max_buffered=10_000,
        )  # fmt: skip
        nothing = cast("Any", Nothing())
        self._inference = Inference(
            ROWS[0], keys=nothing, models=nothing, options=nothing, metrics=nothing, log=nothing,
            dispatcher=cast("Any", self), turnstile=cast("Any", self),
        )  # fmt: skip
        self.frames(Accepted(1, 0, "w" * 16, "north"), Head(1, 1, 200, "text/event-stream"))

    def frames(self, *frames: Frame) -> None:
        for frame in frames:
            self.request.answer.on_frame(frame)
        self.request.wake()

    def serve(self) -> asyncio.Task[None]:
        model = SimpleNamespace(ready=lambda _: True)
        serving = self._inference._serve(self.request, cast("Any", model), self._send)
        return asyncio.create_task(serving)

    async def read_some(self, data: bytes) -> asyncio.Task[None]:
        """Serve the request as far as these bytes of the answer, which the client has read."""
        serving = self.serve()
        self.frames(Chunk(1, 2, data))
        await turns()
        assert self.read == data
        return serving

    async def _send(self, message: Any) -> None:
        self.read += message.get("body", b"")

    # The dispatcher and the turnstile

    async def submit(self, request: LiveRequest, model: object) -> None: ...

    def taken(self, request: LiveRequest) -> None: ...

    def finish(self, request: LiveRequest) -> None:
        self.cancels += request.answer.error is not None

    def leave(self, request: LiveRequest, status: int, outcome: str, now: float) -> None:
        self.accounted.append((status, outcome))


async def turns() -> None:
    """Let the others do what they can."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("done", [DONE, b"data:[DONE]\r\n\r\n", TOKEN + DONE])
@pytest.mark.parametrize("at_once", [False, True])
async def test_who_has_all_of_its_answer_has_not_cancelled(done: bytes, at_once: bool) -> None:
    stage = Stage()
    serving = await stage.read_some(done)
    stage.request.leave()
    if not at_once:
        await turns()
    assert not stage.accounted
    stage.frames(END)
    await serving
    assert (stage.accounted, stage.cancels) == ([(200, "ok")], 0)
    assert stage.request.answer.usage == Usage(11, 22)


async def test_who_leaves_before_the_last_event_has() -> None:
    stage = Stage()
    serving = await stage.read_some(TOKEN)
    stage.request.leave()
    await turns()
    assert (stage.accounted, stage.cancels) == ([(CLIENT_LEFT, "cancelled")], 1)
    await serving


async def test_what_came_too_late_to_be_handed_over_was_not() -> None:
    stage = Stage()
    serving = await stage.read_some(TOKEN)
    stage.request.leave()
    stage.frames(Chunk(1, 3, DONE), End(1, 4, Usage(11, 22), Timings()))
    await serving
    assert stage.read == TOKEN
    assert stage.accounted == [(CLIENT_LEFT, "ok")]


async def test_an_end_that_does_not_come_is_not_awaited_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference, "END_SECONDS", 0.05)
    stage = Stage()
    serving = await stage.read_some(DONE)
    stage.request.leave()
    await asyncio.wait_for(serving, 5)
    assert (stage.accounted, stage.cancels) == ([(CLIENT_LEFT, "cancelled")], 1)


async def test_nor_is_that_of_a_worker_which_is_gone() -> None:
    stage = Stage()
    serving = await stage.read_some(DONE)
    stage.request.leave()
    stage.frames(Fail(1, 3, Code.WORKER_DRAINED, "-", True, Usage(), Timings()))
    await turns()
    assert (stage.accounted, stage.cancels) == ([(CLIENT_LEFT, "cancelled")], 1)
    await serving
