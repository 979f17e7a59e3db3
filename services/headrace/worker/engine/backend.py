"""What a worker needs of what answers its requests: an engine of its own, or a provider."""

from typing import Protocol

from headrace.protocol.errors import HeadraceError
from headrace.protocol.requests import Request
from headrace.worker.http_client import EngineClient
from headrace.worker.resume.planner import EngineCall


class Backend(Protocol):
    """An engine, from start to end, and how to ask it."""

    client: EngineClient

    @property
    def kind(self) -> str:
        """What it is, for the log."""

    @property
    def takes(self) -> bool:
        """Whether requests should be taken for it now."""

    @property
    def trouble(self) -> str:
        """Why it should not get any, for those who wait; empty where all is well."""

    async def start(self) -> None:
        """Begin to load."""

    async def died(self) -> str:
        """Wait until it has ended by itself; why, for the operator."""

    async def ready(self) -> str:
        """Wait until it serves; what it has answered. Raises Fatal where it never will."""

    async def lost(self) -> str:
        """Wait until it should be given up; why, for the operator."""

    async def stop(self, *, graceful: bool) -> None:
        """End it. Nothing is left on return."""

    async def plan(self, request: Request, delivered: int) -> EngineCall:
        """What to ask for a request whose message was given out so often."""

    def judged(self, status: int, answer: bytearray, retry_after: str) -> bytearray:
        """The whole answer as it may be sent on. Raises HeadraceError."""

    def broken(self, error: OSError) -> HeadraceError:
        """What is said of an exchange that broke off."""
