"""One connection to a NATS server, from its INFO to its end. Coming back is the bus's business."""

import asyncio
import base64
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec
import nkeys

from headrace.runtime.nats import protocol
from headrace.runtime.nats.protocol import Message, Parser, WireError

PING_SECONDS: Final = 5.0
PINGS_LOST: Final = 2
"""A server that leaves so many unanswered is gone."""

HANDSHAKE_SECONDS: Final = 3.0


class Info(msgspec.Struct):
    """What of the server's INFO counts for us."""

    nonce: str = ""
    max_payload: int = 1024 * 1024
    headers: bool = False
    auth_required: bool = False


class ConnectionFailed(Exception):
    """The connection can't be made, or was refused; the text is the server's or the system's."""


class Connection(asyncio.Protocol):
    """The bytes of one connection: `on_message` for each message, `on_lost` once at the end."""

    def __init__(
        self,
        on_message: Callable[[bytes, Message], None],
        on_lost: Callable[[str], None],
        on_refusal: Callable[[str], None],
        *,
        name: str,
        seed: str | None,
    ) -> None:
        self.info = Info()
        self._parser = Parser(on_message, self._on_line)
        self._on_lost = on_lost
        self._on_refusal = on_refusal
        self._name = name
        self._seed = seed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._out: list[bytes] = []
        self._size = 0
        self._flushing = False
        self._pongs: deque[asyncio.Future[None] | None] = deque()
        self._unanswered = 0
        self._pinger: asyncio.TimerHandle | None = None
        self._reason = ""

    @property
    def waiting(self) -> int:
        """Bytes that wait to be sent."""
        sent = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._size + sent

    async def ready(self) -> None:
        """Wait until the server has let us in. Raises ConnectionFailed."""
        try:
            # Shielded: a connection that was never let in must not be told of as lost.
            await asyncio.wait_for(asyncio.shield(self._ready), HANDSHAKE_SECONDS)
        except TimeoutError:
            self.abort("the server does not answer")
            raise ConnectionFailed("the server does not answer") from None
        if self._transport is None:
            raise ConnectionFailed(self._reason or "closed by the server")

    def write(self, data: bytes) -> None:
        """Send soon: all that is written within one turn of the loop goes out together."""
        self._out.append(data)
        self._size += len(data)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def unsent(self) -> list[bytes]:
        """What was written and never handed to the system."""
        out, self._out, self._size = self._out, [], 0
        return out

    def pong(self) -> "asyncio.Future[None]":
        """Done when the server has taken in all that was written before."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._pongs.append(future)
        self.write(protocol.PING)
        return future

    def close(self) -> None:
        """Send what waits, and close."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close without a further word."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio's calls ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open; the server speaks first."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes from the server."""
        try:
            self._parser.feed(data)
        except (WireError, ValueError, IndexError, msgspec.DecodeError):
            self.abort("the server does not speak NATS")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        reason = self._reason or (type(exc).__name__ if exc else "closed by the server")
        if self._pinger is not None:
            self._pinger.cancel()
        for future in self._pongs:
            if future is not None and not future.done():
                future.set_exception(ConnectionFailed(reason))
                future.exception()  # whoever waits hears of it; nobody has to
        self._pongs.clear()
        self._transport = None
        if self._ready.done():
            self._on_lost(reason)
        else:
            self._ready.set_exception(ConnectionFailed(reason))
            self._ready.exception()

    # --- the protocol -------------------------------------------------------------------------

    def _on_line(self, line: bytes) -> None:
        if line == b"PING":
            self.write(protocol.PONG)
        elif line == b"PONG":
            self._unanswered = 0
            future = self._pongs.popleft() if self._pongs else None
            if future is not None and not future.done():
                future.set_result(None)
        elif line.startswith(b"INFO "):
            self.info = msgspec.json.decode(line[5:], type=Info)
            if not self._ready.done():
                self._introduce()
        elif line.startswith(b"-ERR"):
            # Up to the first quote or preposition it is the server's fixed text; then a subject.
            text = line[4:].decode("utf-8", "replace").strip(" '")
            reason = text.split(" for ")[0].split(" to ")[0]
            if not reason.startswith("Permissions"):
                self._reason = reason  # the server closes the connection after any other
            self._on_refusal(reason)
        elif line != b"+OK":
            raise WireError("an unknown line")

    def _introduce(self) -> None:
        options: dict[str, Any] = {
            "verbose": False, "pedantic": False, "headers": True, "no_responders": True,
            "lang": "python-headrace", "version": "1", "protocol": 1, "name": self._name,
        }  # fmt: skip
        if self._seed is not None and self.info.nonce:
            pair = nkeys.from_seed(bytearray(self._seed.encode()))
            signed = pair.sign(self.info.nonce.encode())
            options["nkey"] = pair.public_key.decode()
            options["sig"] = base64.urlsafe_b64encode(signed).decode().rstrip("=")
            pair.wipe()
        first = self.pong()
        # Before the PING: CONNECT must be the first that the server hears.
        self._out.insert(0, b"CONNECT %b\r\n" % msgspec.json.encode(options))
        first.add_done_callback(self._let_in)

    def _let_in(self, answered: "asyncio.Future[None]") -> None:
        if not self._ready.done() and not answered.cancelled() and answered.exception() is None:
            self._ready.set_result(None)
            self._pinger = self._loop.call_later(PING_SECONDS, self._ping)

    def _ping(self) -> None:
        if self._unanswered >= PINGS_LOST:
            self.abort("the server answers no more")
            return
        self._unanswered += 1
        self._pongs.append(None)
        self.write(protocol.PING)
        self._pinger = self._loop.call_later(PING_SECONDS, self._ping)

    def _flush(self) -> None:
        self._flushing = False
        if self._out and self._transport is not None and not self._transport.is_closing():
            out, self._out, self._size = self._out, [], 0
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
