"""NATS' client protocol as bytes: a parser for what the server sends, and what we send. No I/O.

Source: https://docs.nats.io/reference/reference-protocols/nats-protocol. Why not a library: see
``docs/adr/0008-our-own-nats-client.md``.
"""

from collections.abc import Callable, Mapping
from typing import Final

MAX_LINE: Final = 64 * 1024
"""A control line is far shorter; the longest is the server's INFO."""

PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"

_STATUS_LINE: Final = b"NATS/1.0"


class WireError(Exception):
    """The server sent what is not NATS' protocol."""


class Message:
    """A message as it came. Headers are read only when somebody asks."""

    __slots__ = ("_raw_headers", "data", "reply", "subject")

    def __init__(self, subject: str, reply: str, data: bytes, raw_headers: bytes = b"") -> None:
        self.subject = subject
        self.reply = reply
        """Where to answer, empty if nowhere."""
        self.data = data
        self._raw_headers = raw_headers

    @property
    def headers(self) -> dict[str, str] | None:
        """The headers, None without any; the status of the server's own messages is ``Status``."""
        return read_headers(self._raw_headers) if self._raw_headers else None


def read_headers(raw: bytes) -> dict[str, str]:
    """Headers by name; of one that came twice the last."""
    first, *lines = raw.decode("utf-8", "replace").split("\r\n")
    headers = {}
    status = first[len(_STATUS_LINE) :].strip()
    if status:
        headers["Status"], _, headers["Description"] = status.partition(" ")
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return headers


class Parser:
    """Turns the bytes of a connection into calls.

    `on_message` gets the subscription's number and the message, `on_line` every other line.
    """

    def __init__(
        self, on_message: Callable[[bytes, Message], None], on_line: Callable[[bytes], None]
    ) -> None:
        self._on_message = on_message
        self._on_line = on_line
        self._parts: list[bytes] = []
        self._held = 0
        self._wanted = 0

    def feed(self, data: bytes) -> None:
        """Take bytes in, however they are cut. Raises WireError."""
        if self._parts:
            self._parts.append(data)
            self._held += len(data)
            if self._held < self._wanted:
                return  # a large message: joined once, when it is there
            data = b"".join(self._parts)
            self._parts.clear()
        rest, wanted = self._run(data)
        if rest < len(data):
            self._parts.append(data[rest:] if rest else data)
            self._held = len(data) - rest
            self._wanted = wanted

    def _run(self, data: bytes) -> tuple[int, int]:
        """Handle all that is whole. Returns where the rest begins, and how long it must become."""
        at = 0
        end = len(data)
        while at < end:
            eol = data.find(b"\r\n", at)
            if eol < 0:
                if end - at > MAX_LINE:
                    raise WireError("a line without an end")
                return at, 0
            kind = data[at : at + 4]
            if kind == b"MSG ":
                size = int(data[data.rfind(b" ", at, eol) + 1 : eol])
                start = eol + 2
                stop = start + size
                if stop + 2 > end:
                    return at, stop + 2 - at
                words = data[at + 4 : eol].split()
                reply = words[2].decode() if len(words) == 4 else ""
                self._on_message(words[1], Message(words[0].decode(), reply, data[start:stop]))
                at = stop + 2
            elif kind == b"HMSG":
                words = data[at + 5 : eol].split()
                size = int(words[-1])
                start = eol + 2
                stop = start + size
                if stop + 2 > end:
                    return at, stop + 2 - at
                body = start + int(words[-2])
                reply = words[2].decode() if len(words) == 5 else ""
                message = Message(words[0].decode(), reply, data[body:stop], data[start : body - 4])
                self._on_message(words[1], message)
                at = stop + 2
            else:
                self._on_line(data[at:eol])
                at = eol + 2
        return at, 0


def publish(subject: str, data: bytes, reply: str = "") -> bytes:
    """A message to send. The subject and reply must be admitted names: they are not looked at."""
    if reply:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(data), data)
    return b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(data), data)


def publish_with_headers(
    subject: str, data: bytes, headers: Mapping[str, str], reply: str = ""
) -> bytes:
    """A message with headers to send. Raises ValueError for a header that would end its line."""
    lines = []
    for name, value in headers.items():
        if not (name + value).isprintable() or ":" in name:
            raise ValueError("a header with a control character")
        lines.append(f"{name}: {value}\r\n")
    head = f"NATS/1.0\r\n{''.join(lines)}\r\n".encode()
    where = f"{subject} {reply}" if reply else subject
    sizes = f"{len(head)} {len(head) + len(data)}"
    return b"HPUB %b %b\r\n%b%b\r\n" % (where.encode(), sizes.encode(), head, data)


def subscribe(subject: str, number: bytes) -> bytes:
    """A subscription to send."""
    return b"SUB %b %b\r\n" % (subject.encode(), number)
