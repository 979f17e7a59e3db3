"""Builds that are broken on purpose: what a check never caught, nobody knows to work."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

import msgspec

from headrace.edge.dispatch.response_assembler import ResponseAssembler, Step
from headrace.protocol.frames import Accepted, Frame
from headrace.runtime.nats.jetstream import ACK
from headrace.worker.queue.intake import Intake


def _acknowledges_first(take: Callable[..., None]) -> Callable[..., None]:
    def taken(self: Intake, request: Any, lane: str, delivery: Any, reply: str) -> None:
        self._send(reply, ACK)
        take(self, request, lane, delivery, reply)

    return taken


def _ignores_numbers(on_frame: Callable[..., Step]) -> Callable[..., Step]:
    def took(self: ResponseAssembler, frame: Frame) -> Step:
        if frame.attempt == self.attempt and frame.seq:
            frame = msgspec.structs.replace(frame, seq=self.next_seq)
        return on_frame(self, frame)

    return took


def _ignores_fences(on_frame: Callable[..., Step]) -> Callable[..., Step]:
    def took(self: ResponseAssembler, frame: Frame) -> Step:
        if isinstance(frame, Accepted):
            frame = msgspec.structs.replace(frame, after=self.after)
        return on_frame(self, frame)

    return took


BROKEN: Final[dict[str, tuple[Any, str, Callable[..., Any]]]] = {
    "ack-first": (Intake, "_take", _acknowledges_first),
    "no-seq": (ResponseAssembler, "on_frame", _ignores_numbers),
    "no-fence": (ResponseAssembler, "on_frame", _ignores_fences),
}
"""By name: acknowledge before the work is done, take frames in as they come, let any attempt go on
wherever it began."""


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Break it like that; not at all without a name."""
    with ExitStack() as stack:
        if name:
            owner, method, wrap = BROKEN[name]
            stack.enter_context(patch.object(owner, method, wrap(getattr(owner, method))))
        yield
