"""Event loops on one virtual clock: a loop per process, which can be stopped, continued and killed.

Only what the processes under test use of asyncio's loops is there. Nothing waits: when nobody has
anything to do the clock goes on to the next timer.
"""

import asyncio
import heapq
import itertools
from asyncio import events
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

Ts = TypeVarTuple("Ts")


class Clock:
    """The time, and what is to be done when."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.steps = 0
        """Callbacks run so far."""
        self.crash: BaseException | None = None
        """What a callback or task has raised that nobody caught."""
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.Handle]] = []
        self._numbers = itertools.count()
        self._current: Loop | None = None

    def time(self) -> float:
        """The time now."""
        return self.now

    def loop(self, name: str) -> "Loop":
        """The loop of a new process."""
        return Loop(self, name)  # type: ignore[abstract]  # most of a loop nobody asks for

    def soon(self, handle: asyncio.Handle) -> None:
        """Run it now, after what is due already."""
        self._ready.append(handle)

    def at(self, when: float, handle: asyncio.Handle) -> None:
        """Run it then."""
        heapq.heappush(self._timers, (when, next(self._numbers), handle))

    def run(self, until: float) -> None:
        """Go on until then, or until something crashes."""
        ready, timers = self._ready, self._timers
        self._current = None
        try:
            while self.crash is None:
                while ready and self.crash is None:
                    self._step(ready.popleft())
                if not timers or timers[0][0] > until:
                    break
                when, _, handle = heapq.heappop(timers)
                self.now = max(self.now, when)
                ready.append(handle)
            else:
                return
            self.now = max(self.now, until)
        finally:
            events._set_running_loop(None)

    def _step(self, handle: asyncio.Handle) -> None:
        loop: Loop = handle._loop  # type: ignore[attr-defined]
        if handle.cancelled() or loop.dead:
            return
        if loop.stopped:
            loop.missed.append(handle)
            return
        self.steps += 1
        if loop is not self._current:
            self._current = loop
            events._set_running_loop(loop)
        handle._run()


class Loop(asyncio.AbstractEventLoop):
    """One process's."""

    def __init__(self, clock: Clock, name: str) -> None:
        self.clock = clock
        self.name = name
        self.dead = False
        self.stopped = False
        self.missed: list[asyncio.Handle] = []
        """What was due while it was stopped."""

    def stop(self) -> None:
        """As SIGSTOP does."""
        self.stopped = True

    def go_on(self) -> None:
        """As SIGCONT does: what was missed comes at once."""
        self.stopped = False
        for handle in self.missed:
            self.clock.soon(handle)
        self.missed.clear()

    def kill(self) -> None:
        """As SIGKILL does."""
        self.dead = True

    # What asyncio's tasks, futures and timeouts ask of a loop.

    def time(self) -> float:
        """The time now."""
        return self.clock.now

    def get_debug(self) -> bool:
        """No."""
        return False

    def is_running(self) -> bool:
        """It is."""
        return True

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Run it now."""
        handle = asyncio.Handle(callback, args, self, context)
        self.clock.soon(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:  # fmt: skip
        """Run it then."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.clock.at(when, handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:  # fmt: skip
        """Run it after so many seconds."""
        return self.call_at(self.clock.now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> Any:
        """A task of this loop."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nobody caught it: the history ends here. What a killed process leaves is of no matter."""
        if not self.dead and self.clock.crash is None and "exception" in context:
            self.clock.crash = context["exception"]

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""
