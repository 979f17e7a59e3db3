"""The engine of one worker, and the part of an attempt that talks to it.

The n-th token of an answer is a function of its request, whoever writes it. What an `Attempt` does
with HTTP and SSE is replaced; how it begins, is paused, cancelled and concluded is the real code.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from headrace.protocol.frames import End, Timings, Usage
from headrace.protocol.requests import Partial, Request
from headrace.worker.queue.attempt import Attempt
from tests.model.check import Check

PROMPT_TOKENS = 3
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Task:
    """What a request asks of an engine."""

    tokens: int
    prefill: float
    """Seconds before the first token."""
    interval: float
    """Seconds between tokens."""
    together: int = 1
    """Tokens in one chunk."""
    padding: int = 0
    """Letters of a token, to fill windows."""
    poison: bool = False
    """Whether it kills what works on it."""

    def token(self, number: int) -> str:
        """The n-th token, from 0."""
        return f"{number:04d}{'.' * self.padding} "

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.token(number) for number in range(self.tokens))

    def written(self, text: str) -> int | None:
        """How many tokens `text` is, None where it is not the answer's beginning."""
        count, rest = divmod(len(text), len(self.token(0)))
        return None if rest or not self.text.startswith(text) else count


class Engine:
    """Works on requests until it dies."""

    def __init__(self, name: str, check: Check, *, ids: bool) -> None:
        self.name = name
        self.check = check
        self.ids = ids
        """Whether it tells the ids of tokens."""
        self.dead = False
        self.killed = False
        """Whether the whole process is no more."""
        self.on_poison: Callable[[str], None] = lambda _: None
        self._sleepers: set[asyncio.Future[None]] = set()

    def die(self) -> None:
        """All connections to it break."""
        self.dead = True
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_exception(ConnectionResetError())

    async def work(self, seconds: float) -> None:
        """Let it work. Raises OSError where it is dead."""
        if self.dead:
            raise ConnectionRefusedError
        loop = asyncio.get_running_loop()
        sleeper = loop.create_future()
        self._sleepers.add(sleeper)
        timer = loop.call_later(seconds, _wake, sleeper)
        try:
            await sleeper
        finally:
            timer.cancel()
            self._sleepers.discard(sleeper)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class Work(Attempt):
    """An attempt whose engine is an `Engine`."""

    def start(self, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
        """As the real one does, and say so."""
        engine: Any = self._shared.client
        engine.check.begun(self.request, self.number, self._shared.worker)
        return super().start(tasks)

    def conclude(self) -> None:
        """As the real one does, and say so."""
        engine: Any = self._shared.client
        if engine.killed:
            return  # what is collected of a process that is no more
        super().conclude()
        engine.check.ended(self.request.id, self.number, complete=self.complete)

    async def _serve(self) -> None:
        request: Request = self.request
        engine: Any = self._shared.client
        task: Task = engine.check.task(request.id)
        await engine.work(task.prefill)
        if task.poison:
            engine.on_poison(request.id)
            await engine.work(1.0)
        if not request.stream:
            await engine.work(task.interval * task.tokens)
            self.head(200, "application/json")
            content = {"choices": [{"message": {"content": task.text}}]}
            self.chunk(msgspec.json.encode(content))
            self._complete(task.tokens)
            return
        self.head(200, "text/event-stream")
        partial = request.partial or Partial(0)
        done = task.written(partial.text)
        if done is None:
            engine.check.fail(f"asked to go on after {partial.text[-40:]!r}, which is not its text")
            return
        if not partial.after:
            self.chunk(_event({"delta": {"role": "assistant", "content": ""}}))
        for numbers in _batches(done, task.tokens, task.together):
            await engine.work(task.interval * len(numbers))
            engine.check.working(request.id, self.number, self._shared.worker)
            events = [_event({"delta": {"content": task.token(number)}}) for number in numbers]
            ids = b"".join(number.to_bytes(4, "little") for number in numbers)
            self.chunk(b"".join(events), ids if engine.ids else b"")
            await self._let_the_client_catch_up()
        if not partial.finish:
            self.chunk(_event({"delta": {}, "finish_reason": "stop"}))
        self.chunk(DONE)
        self._complete(partial.count + task.tokens - done)

    def _complete(self, tokens: int) -> None:
        self._usage = Usage(PROMPT_TOKENS, tokens)
        self._emit(End(self.number, self._next(), self._usage, Timings()))
        self.complete = True
        self.outcome = "ok"


def _batches(first: int, end: int, size: int) -> Iterator[range]:
    for start in range(first, end, size):
        yield range(start, min(end, start + size))


def _event(choice: dict[str, object]) -> bytes:
    data = {"id": "chatcmpl-1", "created": 1, "choices": [{"index": 0, **choice}]}
    return b"data: " + msgspec.json.encode(data) + b"\n\n"
