"""The bus: the only place that knows how NATS is spoken, so that another client can take its place.

Callbacks are plain functions, called as the bytes come in, with no queue and no task between: they
must be quick and must not block. What they raise is logged and counted, and the bus goes on.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from headrace.runtime.config import ConfigError, read_secret
from headrace.runtime.nats import protocol
from headrace.runtime.nats.connection import Connection, ConnectionFailed
from headrace.runtime.nats.protocol import Message

if TYPE_CHECKING:
    from headrace.runtime.logging import Logger  # the command line needs options, and no logs

__all__ = ["Bus", "BusError", "BusOptions", "BusTimeout", "Message", "NoResponders"]

CONNECT_SECONDS: Final = 2.0
RECONNECT_SECONDS: Final = 0.25

PENDING_BYTES: Final = 8 * 1024 * 1024
"""What may wait to be sent, also while reconnecting; `publish` raises BusError beyond it."""

DEFAULT_PORT: Final = 4222


class BusOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where the server is, and the file with the seed of this process's NKey."""

    url: str = "nats://127.0.0.1:4222"
    nkey_file: str = ""


class BusError(Exception):
    """The bus could not do it now: not connected, or too much is waiting to be sent."""


class BusTimeout(BusError):
    """Nobody answered in time."""


class NoResponders(BusError):
    """Nobody is there to answer."""


Callback = Callable[[Message], None]


class Bus:
    """A connection to a NATS server that comes back by itself."""

    def __init__(self, log: "Logger", *, name: str, inbox: str) -> None:
        self._log = log
        self._name = name
        self._inbox = inbox
        self._connection: Connection | None = None
        self._closed = False
        self._seed: str | None = None
        self._address = ("", 0)
        self._subscriptions: dict[bytes, tuple[str, Callback]] = {}
        self._replies = f"{inbox}.r."
        self._asked: dict[str, asyncio.Future[Message]] = {}
        self._number = 0
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._reconnected: list[Callable[[], None]] = []
        self._reconnecting: asyncio.Task[None] | None = None
        self.failed = 0
        """Callbacks that raised."""

    async def connect(self, options: BusOptions) -> None:
        """Connect, trying again until the server is there. Raises ConfigError for a bad seed."""
        self._seed = read_secret(options.nkey_file) if options.nkey_file else None
        self._address = _address(options.url)
        self._add(f"{self._replies}*", self._on_reply)
        await self._open()
        self._log.info("bus_connected", address=options.url)

    @property
    def connected(self) -> bool:
        """Whether the server is there right now."""
        return self._connection is not None

    @property
    def inbox(self) -> str:
        """The prefix below which this process may receive replies."""
        return self._inbox

    @property
    def waiting(self) -> int:
        """Bytes that wait to be sent. Who sends much should `flush` above some bound of its own."""
        return self._held_bytes if self._connection is None else self._connection.waiting

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the connection has come back."""
        self._reconnected.append(callback)

    async def subscribe(self, subject: str, callback: Callback) -> None:
        """Call `callback` with every message of `subject`, for as long as the bus lives."""
        number = self._add(subject, callback)
        if self._connection is not None:
            self._connection.write(protocol.subscribe(subject, number))

    def send(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """Send; at most once. Raises BusError where it can't even be buffered."""
        self._write(protocol.publish(subject, data, reply))

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """As `send`, for who can wait."""
        self._write(protocol.publish(subject, data, reply))

    async def request(
        self,
        subject: str,
        data: bytes,
        *,
        timeout: float,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """Send and wait for the one answer. Raises NoResponders, BusTimeout or BusError."""
        self._number += 1
        token = str(self._number)
        reply = self._replies + token
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Message] = loop.create_future()
        self._asked[token] = answer
        # Half the price of `asyncio.timeout`, and there is one for each request.
        timer = loop.call_later(timeout, _too_late, answer, subject)
        try:
            if headers:
                self._write(protocol.publish_with_headers(subject, data, headers, reply))
            else:
                self._write(protocol.publish(subject, data, reply))
            message = await answer
        finally:
            timer.cancel()
            del self._asked[token]
        if not message.data and (message.headers or {}).get("Status") == "503":
            raise NoResponders(subject)
        return message.data

    async def flush(self, timeout: float = 2.0) -> None:
        """Wait until the server has got all that was published. Raises BusError."""
        if self._connection is None:
            raise BusError("not connected")
        try:
            await asyncio.wait_for(self._connection.pong(), timeout)
        except TimeoutError:
            raise BusTimeout("flush") from None
        except ConnectionFailed as error:
            raise BusError(str(error)) from error

    async def close(self) -> None:
        """Send what waits, then close; also where it never connected."""
        self._closed = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.wait([self._reconnecting])
        if self._connection is not None:
            with contextlib.suppress(BusError):  # the server may be gone first
                await self.flush()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- inside -------------------------------------------------------------------------------

    def _add(self, subject: str, callback: Callback) -> bytes:
        number = b"%d" % (len(self._subscriptions) + 1)
        self._subscriptions[number] = (subject, callback)
        return number

    def _write(self, data: bytes) -> None:
        if self.waiting + len(data) > PENDING_BYTES:
            raise BusError("too much is waiting to be sent")
        connection = self._connection
        if connection is not None:
            if len(data) > connection.info.max_payload:
                raise BusError("the message is larger than the server allows")
            connection.write(data)
        elif self._closed:
            raise BusError("closed")
        else:
            self._held.append(data)
            self._held_bytes += len(data)

    async def _open(self) -> None:
        """Connect, however often it takes, and subscribe to everything again."""
        loop = asyncio.get_running_loop()
        told = ""
        while True:
            connection = Connection(
                self._on_message, self._on_lost, self._on_refusal, name=self._name, seed=self._seed
            )
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await loop.create_connection(lambda: connection, *self._address)  # noqa: B023
                await connection.ready()
            except (OSError, TimeoutError, ConnectionFailed) as error:
                reason = str(error) if isinstance(error, ConnectionFailed) else type(error).__name__
                if reason != told:
                    self._log.warning("bus_unreachable", reason=reason)
                    told = reason
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            except asyncio.CancelledError:
                connection.abort("closed")  # it may be open and wait for the server's first word
                raise
            for number, (subject, _) in self._subscriptions.items():
                connection.write(protocol.subscribe(subject, number))
            for data in self._held:
                connection.write(data)
            self._held.clear()
            self._held_bytes = 0
            self._connection = connection
            return

    async def _come_back(self) -> None:
        await self._open()
        self._log.info("bus_reconnected")
        for callback in self._reconnected:
            callback()

    def _on_message(self, number: bytes, message: Message) -> None:
        subscription = self._subscriptions.get(number)
        if subscription is None:
            return
        try:
            subscription[1](message)
        except Exception as error:  # noqa: BLE001 - one bad message must not end the bus
            self.failed += 1
            self._log.error("callback_failed", exc_info=error)

    def _on_reply(self, message: Message) -> None:
        answer = self._asked.get(message.subject.removeprefix(self._replies))
        if answer is not None and not answer.done():
            answer.set_result(message)

    def _on_lost(self, reason: str) -> None:
        lost, self._connection = self._connection, None
        if self._closed or lost is None:
            return  # where there was none, somebody is at it already
        self._log.warning("bus_disconnected", reason=reason)
        self._held = lost.unsent()
        self._held_bytes = sum(map(len, self._held))
        self._reconnecting = asyncio.create_task(self._come_back(), name="bus-reconnect")

    def _on_refusal(self, reason: str) -> None:
        self._log.warning("bus_refused", reason=reason)


def _too_late(answer: "asyncio.Future[Message]", subject: str) -> None:
    if not answer.done():
        answer.set_exception(BusTimeout(subject))


def _address(url: str) -> tuple[str, int]:
    """Host and port of ``nats://host:port``. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise ConfigError(f"bus.url: {error}") from error
    if parts.scheme != "nats" or not parts.hostname:
        raise ConfigError("bus.url: must be like nats://127.0.0.1:4222")
    return parts.hostname, port
