"""The bus: the only place that imports a NATS client, so that another one can take its place.

Callbacks are plain functions, called once per message with no task of their own: they must be
quick and must not block. What they raise is logged and counted, and the bus goes on.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError, SlowConsumerError
from nats.errors import TimeoutError as NatsTimeout

from headrace.runtime.config import read_secret

if TYPE_CHECKING:
    from headrace.runtime.logging import Logger  # the command line needs options, and no logs

PING_SECONDS: Final = 5
"""A dead server is noticed after two unanswered pings."""

RECONNECT_SECONDS: Final = 0.25

PENDING_BYTES: Final = 8 * 1024 * 1024
"""What may wait to be sent, also while reconnecting; `publish` raises BusError beyond it."""

SEND_OVERHEAD: Final = 512
"""More than subjects and lengths add to a message in the client's buffer."""

SUBSCRIPTION_BYTES: Final = 256 * 1024 * 1024
SUBSCRIPTION_MESSAGES: Final = 1024 * 1024
"""What may wait to be handled. Callbacks only sort messages, so this fills only in a long stall;
what is dropped then is healed by sequence numbers."""


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


class Message(Protocol):
    """What a callback gets."""

    subject: str
    reply: str
    data: bytes

    @property
    def headers(self) -> dict[str, str] | None:
        """The message's headers."""


Callback = Callable[[Message], None]


class Bus:
    """A connection to a NATS server that comes back by itself."""

    def __init__(self, log: "Logger", *, name: str, inbox: str) -> None:
        self._log = log
        self._name = name
        self._inbox = inbox
        self._client = Client()
        self._reconnected: list[Callable[[], None]] = []
        self.dropped = 0
        """Messages that were dropped because callbacks were too slow."""
        self.failed = 0
        """Callbacks that raised."""

    async def connect(self, options: BusOptions) -> None:
        """Connect, trying again until the server is there. Raises ConfigError for a bad seed."""
        seed = read_secret(options.nkey_file) if options.nkey_file else None
        await self._client.connect(
            options.url,
            name=self._name,
            nkeys_seed_str=seed,
            inbox_prefix=self._inbox,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_SECONDS,  # type: ignore[arg-type]  # it only sleeps for it
            connect_timeout=2,
            ping_interval=PING_SECONDS,
            max_outstanding_pings=2,
            pending_size=PENDING_BYTES,
        )
        self._log.info("bus_connected", address=options.url)

    @property
    def connected(self) -> bool:
        """Whether the server is there right now."""
        return self._client.is_connected

    @property
    def inbox(self) -> str:
        """The prefix below which this process may receive replies."""
        return self._inbox

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the connection has come back."""
        self._reconnected.append(callback)

    async def subscribe(self, subject: str, callback: Callback) -> None:
        """Call `callback` with every message of `subject`, for as long as the bus lives."""

        async def deliver(message: Msg) -> None:
            try:
                callback(message)
            except Exception as error:  # noqa: BLE001 - one bad message must not end the bus
                self.failed += 1
                self._log.error("callback_failed", exc_info=error)

        await self._client.subscribe(
            subject,
            cb=deliver,
            pending_msgs_limit=SUBSCRIPTION_MESSAGES,
            pending_bytes_limit=SUBSCRIPTION_BYTES,
        )

    @property
    def waiting(self) -> int:
        """Bytes that wait to be sent. Who sends much should `flush` above some bound of its own."""
        return self._client.pending_data_size

    def send(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """Like `publish`, from code that cannot wait, such as a callback or a timer.

        Raises BusError where the message can't even be buffered.
        """
        if self._client.pending_data_size + len(data) + SEND_OVERHEAD > PENDING_BYTES:
            raise BusError("too much is waiting to be sent")
        # The client's publish waits only where its buffer is full, so its first step is its last.
        step = self._client.publish(subject, data, reply=reply)
        try:
            step.send(None)
        except StopIteration:
            return
        except NatsError as error:
            raise BusError(type(error).__name__) from error
        step.close()

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send; at most once. Raises BusError where it can't even be buffered."""
        try:
            await self._client.publish(subject, data, reply=reply, headers=headers)
        except NatsError as error:
            raise BusError(type(error).__name__) from error

    async def request(
        self,
        subject: str,
        data: bytes,
        *,
        timeout: float,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """Send and wait for the one answer. Raises NoResponders, BusTimeout or BusError."""
        try:
            answer = await self._client.request(subject, data, timeout=timeout, headers=headers)
        except NoRespondersError as error:
            raise NoResponders(subject) from error
        except NatsTimeout as error:
            raise BusTimeout(subject) from error
        except NatsError as error:
            raise BusError(type(error).__name__) from error
        data_: bytes = answer.data
        return data_

    async def flush(self, timeout: float = 2.0) -> None:
        """Wait until the server has got all that was published."""
        try:
            await self._client.flush(timeout=int(timeout) or 1)
        except NatsError as error:
            raise BusError(type(error).__name__) from error

    async def close(self) -> None:
        """Send what waits, then close; also where it never connected."""
        if self._client.connected_url is None and not self._client.is_reconnecting:
            return  # the client asserts what only a connection sets up
        # The server may be gone first; there is nothing left to save then.
        with contextlib.suppress(NatsError, TimeoutError, OSError):
            await asyncio.wait_for(self._client.close(), 2.0)

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, SlowConsumerError):
            self.dropped += 1
            return
        # The text of a server's error names a subject at most, but a subject may hold a request id.
        self._log.warning("bus_error", error=type(error).__name__)

    async def _on_disconnected(self) -> None:
        self._log.warning("bus_disconnected")

    async def _on_reconnected(self) -> None:
        self._log.info("bus_reconnected")
        for callback in self._reconnected:
            callback()
