"""HTTP to a provider: the engine's client over TCP and TLS, with a key and with time-outs."""

import asyncio
import ssl
from typing import Final

from headrace.external.keyfile import KeyFile
from headrace.external.provider import ProviderOptions
from headrace.worker.http_client import EngineClient, EngineError, Exchange, Sink, written

LOOK_SECONDS: Final = 0.25
"""How exactly time-outs are kept."""


class UnreachableError(EngineError):
    """There was no connection: nothing has been sent."""


class ProviderExchange(Exchange):
    """An exchange that does not wait for ever."""

    options: ProviderOptions
    _watch: asyncio.TimerHandle | None = None
    _silent_since = 0.0
    _answered = False

    def begin(self, sink: Sink, request: bytes) -> None:
        """As any exchange does; time runs from when the request is sent."""
        super().begin(sink, request)
        self._answered = False
        if self._transport is not None:
            self._start()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        self._silent_since = asyncio.get_running_loop().time()
        self._answered = True
        super().data_received(data)

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._silent_since = loop.time()
        if self._watch is not None:
            self._watch.cancel()
        self._watch = loop.call_later(LOOK_SECONDS, self._look_at_time)

    def _look_at_time(self) -> None:
        self._watch = None
        if self._over or self._transport is None:
            return
        loop = asyncio.get_running_loop()
        if self._paused:  # it is the client who is slow
            self._silent_since = loop.time()
        options = self.options
        most = options.idle_seconds if self._answered else options.first_byte_seconds
        if loop.time() - self._silent_since > most:
            self._end(EngineError("the provider is silent"))
            return
        self._watch = loop.call_later(LOOK_SECONDS, self._look_at_time)


class ProviderClient(EngineClient):
    """Asks a provider. Nothing of a client's headers ever comes here."""

    def __init__(self, options: ProviderOptions, key: KeyFile, ca_file: str = "") -> None:
        super().__init__()
        self._options = options
        self._key = key
        self._address = options.address
        self._tls: ssl.SSLContext | None = None
        if self._address.tls:
            self._tls = ssl.create_default_context(cafile=ca_file or None)
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self._tls.set_alpn_protocols(["http/1.1"])

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """With the key as its file has it now. Raises ConfigError."""
        tls, host, port = self._address
        shown = f"[{host}]" if ":" in host else host
        if port != (443 if tls else 80):
            shown += f":{port}"
        more = self._options.credentials(self._key.key, probing=method == "GET")
        return written(method, path, shown, body, more)

    def connect(self, exchange: Exchange) -> None:
        """Never a second time: what the provider has read of the first nobody knows."""
        exchange.failed(EngineError("the provider closed the connection"))

    def _exchange(self, sink: Sink, request: bytes) -> Exchange:
        made = ProviderExchange(sink, self, request)
        made.options = self._options
        return made

    async def _dial(self, exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        _, host, port = self._address
        try:
            async with asyncio.timeout(self._options.connect_seconds):
                await loop.create_connection(
                    lambda: exchange, host, port, ssl=self._tls,
                    server_hostname=host if self._tls else None,
                )  # fmt: skip
        except ssl.SSLCertVerificationError:
            raise UnreachableError("its certificate is not trusted") from None
        except TimeoutError:
            if exchange.sent:  # at the last moment: it may have been read
                raise EngineError("no connection in time") from None
            raise UnreachableError("no connection in time") from None
        except (OSError, UnicodeError) as error:
            raise UnreachableError(f"no connection: {type(error).__name__}") from None
