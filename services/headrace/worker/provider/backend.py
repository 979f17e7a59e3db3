"""A provider in the place of an engine: nothing to load, nothing to hang, and not ours to end."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final

from headrace.external.keyfile import KeyFile
from headrace.external.model import ExternalModel
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.requests import Request
from headrace.runtime.config import ConfigError
from headrace.runtime.logging import Logger
from headrace.worker.http_client import EngineClient
from headrace.worker.provider import error_mapping, rewrite
from headrace.worker.provider.circuit_breaker import CircuitBreaker
from headrace.worker.provider.error_mapping import ProviderError
from headrace.worker.provider.event_reader import ProviderReader
from headrace.worker.provider.http_client import ProviderClient, UnreachableError
from headrace.worker.resume import planner
from headrace.worker.resume.planner import EngineCall

KEY_REASON: Final = "the provider does not take this site's key"
AWAY_REASON: Final = "the provider cannot be reached"
FILE_REASON: Final = "the file of the provider's key cannot be used"

PATIENCE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.1

AGAIN: Final = "The worker was lost before the answer had begun."


class ProviderBackend:
    """The `Backend` of the web machine."""

    def __init__(self, file: ExternalModel, key: Path, ca_file: str, log: Logger) -> None:
        self._file = file
        self._key = KeyFile(key)
        self._log = log
        self._weather = CircuitBreaker(file.engine.probe_seconds)
        self._doubted = asyncio.Event()
        self.client: EngineClient = ProviderClient(file.engine, self._key, ca_file)
        self._time = asyncio.get_running_loop().time

    @property
    def kind(self) -> str:
        """As `Backend` says, like all here."""
        return self._file.engine.kind

    @property
    def takes(self) -> bool:
        """Whether it is well, and has not asked for fewer requests."""
        return self._weather.open(self._time())

    @property
    def trouble(self) -> str:
        """Why it is in doubt."""
        return self._weather.reason

    async def start(self) -> None:
        """There is nothing to load."""

    async def died(self) -> str:
        """Never."""
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def ready(self) -> str:
        """Wait until it is there and takes our key, however long that is: no token is spent."""
        while not await self._probe():  # noqa: ASYNC110  # nobody tells when it is
            await asyncio.sleep(self._weather.wait(self._time()))
        return "probe"

    async def lost(self) -> str:
        """Look after it for ever. It is not given up: others could do no better."""
        while True:
            if not self.trouble:
                self._doubted.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._file.engine.probe_seconds):
                        await self._doubted.wait()
            if self.trouble:
                await asyncio.sleep(self._weather.wait(self._time()))
            await self._probe()

    async def stop(self, *, graceful: bool) -> None:  # noqa: ARG002  # nothing of it is ours
        """Hang up."""
        self.client.close()

    async def plan(self, request: Request, delivered: int) -> EngineCall:
        """The client's request as it may leave; never twice, and never the rest of an answer."""
        if delivered > 1:
            # Whoever had it before may have sent it. The edge decides whether to pay once more.
            raise HeadraceError(Code.WORKER_LOST, AGAIN, retryable=True)
        if request.partial is not None and request.partial.text:
            planner.refuse("the model's provider has no way to")
        await self._until_open()
        try:
            self._key.key  # noqa: B018  # to know beforehand that there is one
        except ConfigError as error:
            self._log.error("key_unusable", reason=str(error))
            self._weather.failed(FILE_REASON, self._time())
            raise HeadraceError(Code.PROVIDER_REFUSED, error_mapping.REFUSES) from None
        made = rewrite.rewrite(self._file, request.endpoint, request.body, stream=request.stream)
        path = self._file.engine.path(request.endpoint)
        return EngineCall(path, made.data, ProviderReader(keep=made.wants_usage))

    def judged(self, status: int, answer: bytearray, retry_after: str) -> bytearray:
        """Only what concerns the client is passed on. Raises HeadraceError."""
        found = error_mapping.verdict(status, retry_after)
        now = self._time()
        match found.trouble:
            case ProviderError.BUSY:
                self._weather.busy(error_mapping.seconds(retry_after), now)
                self._log.warning("provider_busy", status=status)
            case ProviderError.AWAY:
                self._doubt(AWAY_REASON, status)
            case ProviderError.REFUSED:
                self._doubt(KEY_REASON, status)
            case _:
                self._weather.answered(now)
        if found.error is not None:
            raise found.error
        return answer if status < 400 else error_mapping.refusal(status, answer, self._key.last)

    def broken(self, error: OSError) -> HeadraceError:
        """Nothing is begun anew by itself: it may have been paid for."""
        self._doubt(AWAY_REASON, 0)
        if isinstance(error, UnreachableError):
            return HeadraceError(
                Code.PROVIDER_UNAVAILABLE, error_mapping.AWAY, retryable=False,
                retry_after=max(1, round(self._weather.wait(self._time()))),
            )  # fmt: skip
        return HeadraceError(Code.ENGINE_FAILED, error_mapping.FAILED, retryable=False)

    async def _until_open(self) -> None:
        """Pulls that were under way when trouble began may still bring requests: they wait here."""
        give_up = self._time() + PATIENCE_SECONDS
        while not self.takes:
            if self._time() > give_up:
                wait = max(1, round(self._weather.wait(self._time())))
                raise HeadraceError(
                    Code.PROVIDER_UNAVAILABLE, error_mapping.AWAY, retryable=False, retry_after=wait
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def _probe(self) -> bool:
        """Whether it is there, by a question that costs no tokens."""
        options = self._file.engine
        try:
            self._key.key  # noqa: B018  # the file is the operator's to put right
            status = await self.client.look(options.probe, options.connect_seconds * 2)
        except ConfigError as error:
            self._log.error("key_unusable", reason=str(error))
            self._weather.failed(FILE_REASON, self._time())
            return False
        if status in (401, 403):
            self._doubt(KEY_REASON, status)
        elif status == 0 or status >= 500:
            self._doubt(AWAY_REASON, status)
        else:  # also where it has no list of models: it is there
            if self.trouble:
                self._log.info("provider_well", status=status)
            self._weather.answered(self._time())
            return True
        return False

    def _doubt(self, reason: str, status: int) -> None:
        if self.trouble != reason:
            self._log.error("provider_trouble", reason=reason, status=status)
        self._weather.failed(reason, self._time())
        self._doubted.set()
