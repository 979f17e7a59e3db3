"""Frames that were sent, kept for a while so that a gap can be filled. No I/O."""

from collections import deque
from dataclasses import dataclass, field


@dataclass
class KeptFrames:
    """What is known of one request's last attempt."""

    edge: str
    attempt: int
    first: int = 0
    """The seq of the oldest frame that is kept."""
    frames: deque[bytes] = field(default_factory=deque)
    size: int = 0
    ended_at: float | None = None
    complete: bool = False
    """Whether it ended with the end of its answer."""

    @property
    def next_seq(self) -> int:
        """The seq of the frame that would follow."""
        return self.first + len(self.frames)


class RetransmitBuffer:
    """The encoded frames of each request's last attempt, bounded per request and in total."""

    def __init__(self, *, per_request: int, total: int, seconds: float) -> None:
        self._per_request = per_request
        self._total = total
        self._seconds = seconds
        self._kept: dict[str, KeptFrames] = {}
        self.size = 0
        """Bytes kept in all."""

    def __len__(self) -> int:
        return len(self._kept)

    def begin(self, request: str, edge: str, attempt: int) -> None:
        """Frames of a new attempt follow, from seq 0; those of an older one are forgotten."""
        self._forget(request)
        self._kept[request] = KeptFrames(edge, attempt)

    def add(self, request: str, frame: bytes) -> None:
        """Keep the next frame of `request`; at a bound the oldest frames are let go."""
        kept = self._kept[request]
        kept.frames.append(frame)
        kept.size += len(frame)
        self.size += len(frame)
        while kept.size > self._per_request:
            self._drop_oldest(kept)
        if self.size > self._total:
            self._make_room(kept)

    def end(self, request: str, now: float, *, complete: bool) -> None:
        """No frame of `request` follows; those there are stay for the retention time."""
        kept = self._kept.get(request)
        if kept is not None:
            kept.ended_at = now
            kept.complete = complete
            # To the end, so that the ended lie in the order of their end.
            self._kept[request] = self._kept.pop(request)

    def expire(self, now: float) -> None:
        """Forget what ended long ago."""
        over = [
            request
            for request, kept in self._kept.items()
            if kept.ended_at is not None and now - kept.ended_at >= self._seconds
        ]
        for request in over:
            self._forget(request)

    def since(self, request: str, attempt: int, next_seq: int) -> list[bytes] | None:
        """The frames of `attempt` from `next_seq` on, none if all were sent; None if not kept."""
        kept = self._kept.get(request)
        if kept is None or kept.attempt != attempt or next_seq < kept.first:
            return None
        return list(kept.frames)[next_seq - kept.first :]

    def find(self, request: str) -> KeptFrames | None:
        """What is known of `request`."""
        return self._kept.get(request)

    def ended(self, request: str) -> KeptFrames | None:
        """The same, if its last attempt has ended."""
        kept = self._kept.get(request)
        return kept if kept is not None and kept.ended_at is not None else None

    def _make_room(self, current: KeptFrames) -> None:
        for request, kept in list(self._kept.items()):
            if self.size <= self._total:
                return
            if kept.ended_at is not None:
                self._forget(request)
        while self.size > self._total and current.frames:
            self._drop_oldest(current)

    def _drop_oldest(self, kept: KeptFrames) -> None:
        size = len(kept.frames.popleft())
        kept.first += 1
        kept.size -= size
        self.size -= size

    def _forget(self, request: str) -> None:
        kept = self._kept.pop(request, None)
        if kept is not None:
            self.size -= kept.size
