"""Two ends of a pipe, joined: what arrives at one goes out at the other, as it is.

Nothing here waits, starts a task or, once both are open, keeps a byte: the buffers are those of the
two streams below, and each end stops reading while the other's is full, so the bounds are theirs.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

HIGH_WATER: Final = 256 * 1024
LOW_WATER: Final = 64 * 1024
"""Bytes that wait for a slow reader before the other end stops reading, and when it goes on.
Together with the SSH window they bound what one pipe holds."""

LINGER_SECONDS: Final = 5.0
"""What a closing stream may take to hand over its last bytes."""


class Stream(Protocol):
    """What an asyncio transport and an asyncssh channel have in common, and a pipe needs."""

    def write(self, data: bytes, /) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


class PipeEnd(asyncio.Protocol):
    """One end of a pipe, as an asyncio protocol. `Pipe` makes the two."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self.received = 0
        """Bytes that arrived here."""
        self.paused = False
        """Whether reading has stopped, because the other end takes no more."""
        self.peer: PipeEnd
        self._stream: Stream | None = None
        self._early: list[bytes] = []
        self._full = False
        self._ended = False
        self._lost = lost

    def connection_made(self, transport: Any) -> None:
        if self._ended:  # the other end was lost while this one opened
            transport.abort()
            return
        self._stream = transport
        transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        for data in self._early:
            transport.write(data)
        self._early.clear()
        if not self._full:
            self.peer.resume()

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.peer.write(data)

    def pause_writing(self) -> None:
        self._full = True
        self.peer.pause()

    def resume_writing(self) -> None:
        self._full = False
        self.peer.resume()

    def eof_received(self) -> bool:
        return False  # half a pipe is of no use: close it

    def connection_lost(self, _exc: Exception | None) -> None:
        self._stream = None
        self._ended = True
        self._lost()

    @property
    def open(self) -> bool:
        """Whether bytes can go out here."""
        return self._stream is not None

    def write(self, data: bytes) -> None:
        """Send `data`: now, or when this end opens, or never if it has ended."""
        stream = self._stream
        if stream is not None:
            try:
                stream.write(data)
            except (OSError, RuntimeError):  # closed a moment ago: its connection_lost comes next
                self._stream = None
        elif not self._ended:
            # Reading stops at the first bytes and not before: uvloop's transports begin to read
            # after connection_made, whatever was asked of them there.
            self._early.append(data)
            self.peer.pause()

    def pause(self) -> None:
        """Stop reading."""
        if self._stream is not None and not self.paused:
            self.paused = True
            self._stream.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._stream is not None and self.paused:
            self.paused = False
            self._stream.resume_reading()

    def close(self) -> None:
        """Read no more, send what waits, then close."""
        self._ended = True
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
            asyncio.get_running_loop().call_later(LINGER_SECONDS, stream.abort)

    def abort(self) -> None:
        """Close at once, also one that is yet to open; what waits is lost."""
        self._ended = True
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()


class Pipe:
    """A connection of the hub, joined to an SSH session.

    The hub's end opens first; what it says waits until the cluster's end is there. When one end
    is lost the other is closed. `finished` is called when the hub's end is gone.
    """

    def __init__(self, finished: Callable[["Pipe"], None]) -> None:
        self.hub = PipeEnd(self._hub_lost)
        self.cluster = PipeEnd(self._cluster_lost)
        self.hub.peer, self.cluster.peer = self.cluster, self.hub
        self._finished = finished

    @property
    def open(self) -> bool:
        """Whether bytes flow."""
        return self.hub.open and self.cluster.open

    def cut(self) -> None:
        """End both ends now."""
        self.cluster.abort()
        self.hub.abort()

    def _hub_lost(self) -> None:
        # At once: a clean close would wait for a window that may never open, for the sake of bytes
        # that are worth nothing to a server whose link ends.
        self.cluster.abort()
        self._finished(self)

    def _cluster_lost(self) -> None:
        # What the cluster's server said last may tell why it closed: let the hub log it.
        self.hub.close()
