"""Daemons with a mistake built in, for tests that the harness finds it. Never part of a product.

A site whose plan says `broken` starts its workers and its edge here; HEADRACE_TEST_BROKEN says
which mistake it is.
"""

import os
from collections.abc import Callable
from typing import Final

import msgspec

from headrace.edge.dispatch.response_assembler import RequestPhase, ResponseAssembler, Step
from headrace.edge.main import main as edge_main
from headrace.protocol.frames import Accepted, Frame
from headrace.runtime.nats.bus import Message
from headrace.runtime.nats.jetstream import ACK
from headrace.worker.main import main as worker_main
from headrace.worker.queue.intake import Intake
from tests.faults.harness.site import BROKEN


def acknowledge_early() -> None:
    """A worker that takes its requests off the queue as soon as it has them."""
    take = Intake._on_delivery

    def broken(self: Intake, message: Message) -> None:
        self._send(message.reply, ACK)
        take(self, message)

    Intake._on_delivery = broken  # type: ignore[method-assign]


def ignore_numbers() -> None:
    """An edge that takes every frame of an attempt as the next one."""
    on_frame = ResponseAssembler.on_frame

    def broken(self: ResponseAssembler, frame: Frame) -> Step:
        if frame.attempt == self.attempt:
            frame = msgspec.structs.replace(frame, seq=self.next_seq)
        return on_frame(self, frame)

    ResponseAssembler.on_frame = broken  # type: ignore[method-assign]


def accept_anything() -> None:
    """An edge to which every new attempt is welcome, wherever it goes on."""
    on_frame = ResponseAssembler.on_frame

    def broken(self: ResponseAssembler, frame: Frame) -> Step:
        if isinstance(frame, Accepted) and frame.attempt > self.attempt:
            frame = msgspec.structs.replace(frame, after=self.after)
            if self.phase is RequestPhase.RUNNING:
                self.phase = RequestPhase.QUEUED
        return on_frame(self, frame)

    ResponseAssembler.on_frame = broken  # type: ignore[method-assign]


MISTAKES: Final[dict[str, Callable[[], None]]] = {
    "acknowledge-early": acknowledge_early,
    "ignore-numbers": ignore_numbers,
    "accept-anything": accept_anything,
}


def worker() -> int:
    """``headrace-worker`` with the mistake."""
    MISTAKES[os.environ[BROKEN]]()
    return worker_main()


def edge() -> int:
    """``headrace-edge`` with the mistake."""
    MISTAKES[os.environ[BROKEN]]()
    return edge_main()
