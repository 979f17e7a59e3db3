"""Clients that only wait: a socket each, nothing else, so that thousands fit into one process."""

import asyncio
import select
import socket
from typing import Final

import msgspec

from loadtests.load.addresses import Address

AT_ONCE: Final = 100
"""Connections begun before the event loop has a turn."""


def message(address: Address, key: str, model: str, prompt: str, tokens: int) -> bytes:
    """A streamed chat request as a client sends it."""
    chat = [{"role": "user", "content": prompt}]
    asked = {"model": model, "messages": chat, "max_tokens": tokens, "stream": True}
    body = msgspec.json.encode(asked)
    head = (
        f"POST {address.prefix}/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Crowd:
    """So many clients that have asked and read nothing."""

    def __init__(self, address: Address, asked: bytes) -> None:
        self._address = address
        self._asked = asked
        self._sockets: list[socket.socket] = []

    def __len__(self) -> int:
        return len(self._sockets)

    async def grow(self, count: int) -> None:
        """Let so many more connect and ask."""
        for n in range(count):
            where = (self._address.host, self._address.port)
            client = socket.create_connection(where, timeout=10)
            client.sendall(self._asked)
            client.setblocking(False)
            self._sockets.append(client)
            if n % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0.02)

    def answered(self) -> int:
        """How many have got any bytes by now, a status or a comment."""
        poll = select.poll()
        for client in self._sockets:
            poll.register(client, select.POLLIN)
        return len(poll.poll(0))

    async def held(self, seconds: float) -> None:
        """Wait until every one has been told that it waits. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while self.answered() < len(self):  # noqa: ASYNC110  # sockets nobody reads
                await asyncio.sleep(0.2)

    def refused(self) -> int:
        """How many were not told 200: whoever waits is."""
        heads = (client.recv(12, socket.MSG_PEEK) for client in self._sockets)
        return sum(head != b"HTTP/1.1 200" for head in heads)

    def close(self) -> None:
        """Let all of them leave."""
        while self._sockets:
            self._sockets.pop().close()
