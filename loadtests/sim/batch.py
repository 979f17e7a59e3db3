"""What runs on the pretended accelerator: steps, slots and a queue, like vLLM's scheduler."""

import asyncio
import os
import signal
from typing import Protocol


class Sequence(Protocol):
    """An answer in the making, with `left` tokens still to come."""

    left: int

    def advance(self, count: int) -> None:
        """Make up to `count` more tokens."""


class Batch:
    """Every step gives each running sequence its next token. `slots` run, the others wait in order.

    A step takes `delay` seconds; with no delay it is one turn of the event loop, so that each
    token is a write of its own. An idle batch begins its step at once.
    """

    def __init__(self, slots: int, delay: float, coalesce: int, die_after: int = 0) -> None:
        self._slots = slots
        self._delay = delay
        self._per_step = coalesce
        self._die_after = die_after
        self._running: dict[Sequence, None] = {}
        self._waiting: dict[Sequence, None] = {}
        self._loop = asyncio.get_running_loop()
        self._stepping = False
        self._next_step = 0.0
        self.generated = 0

    @property
    def running(self) -> int:
        """Sequences that have a slot."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences that wait for one."""
        return len(self._waiting)

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence; it runs as soon as it has a slot."""
        self._waiting[sequence] = None
        self._admit()
        self._schedule()

    def abort(self, sequence: Sequence) -> None:
        """Forget a sequence, whether it runs or waits or is done."""
        self._running.pop(sequence, None)
        self._waiting.pop(sequence, None)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            sequence = next(iter(self._waiting))
            del self._waiting[sequence]
            self._running[sequence] = None

    def _schedule(self) -> None:
        if self._stepping or not self._running:
            return
        self._stepping = True
        now = self._loop.time()
        if self._next_step <= now:
            self._next_step = now
            self._loop.call_soon(self._step)
        else:
            self._loop.call_at(self._next_step, self._step)

    def _step(self) -> None:
        if self._die_after and self.generated >= self._die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        self._stepping = False
        # Timers are coarse, so the pace is kept over the steps; but an engine that was stopped for
        # long does not make up for it in a burst.
        self._next_step = max(self._next_step, self._loop.time() - self._delay) + self._delay
        # A copy: a write that fails at once aborts its sequence under our hands.
        for sequence in list(self._running):
            before = sequence.left
            sequence.advance(self._per_step)
            self.generated += before - sequence.left
            if not sequence.left:
                self._running.pop(sequence, None)
        self._admit()
        self._schedule()
