"""HTTP to the engine over its Unix socket."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import aiohttp

CONNECT_SECONDS: Final = 10.0
"""A Unix socket answers at once unless the engine's backlog is full."""

READ_BYTES: Final = 256 * 1024
"""What is read ahead of a slow bus, per request; beyond it the engine feels the pressure."""

JSON_HEADERS: Final = {
    "Content-Type": "application/json",
    # Bytes are forwarded as they come; a compressed stream could not be cut into events.
    "Accept-Encoding": "identity",
}

Errors: Final = (aiohttp.ClientError, OSError, TimeoutError)
"""What asking the engine may raise."""


class EngineClient:
    """Asks the engine. A connection per request: to close it is to cancel the request."""

    def __init__(self, socket: Path) -> None:
        self._session = aiohttp.ClientSession(
            "http://engine",
            connector=aiohttp.UnixConnector(str(socket), force_close=True, limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BYTES,
            max_line_size=64 * 1024,
            max_field_size=64 * 1024,
        )

    def post(self, path: str, body: bytes) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send a request; leaving the context before the answer's end makes the engine abort."""
        return self._session.post(path, data=body, headers=JSON_HEADERS, allow_redirects=False)

    async def healthy(self, path: str, seconds: float) -> bool:
        """Whether a health check is answered with 200 in time."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.get(path, timeout=timeout, allow_redirects=False) as answer:
                return answer.status == 200
        except Errors:
            return False

    async def ask(self, path: str, body: bytes, seconds: float) -> int:
        """Send a request and throw its answer away; the status, or 0 where there was none."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.post(
                path, data=body, headers=JSON_HEADERS, timeout=timeout, allow_redirects=False
            ) as answer:
                async for _ in answer.content.iter_any():
                    pass
                return answer.status
        except Errors:
            return 0

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
