"""Server-sent events as bytes: cut between events, and find the usage at the end.

Nothing is parsed but events that carry a usage. Lines end with LF or CRLF, as every engine ends
them; the lone CR that the standard also allows is not looked for.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import re
from typing import Final

import msgspec

from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Usage

_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_DONE: Final = b"data: [DONE]"
_DONE_TIGHT: Final = b"data:[DONE]"


class Splitter:
    """Turns any chunking of a stream into whole events."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """All events that are whole now, as one piece; empty if there are none.

        Raises HeadraceError ``response_too_large`` for an event beyond the limit.
        """
        if not self._rest and data.endswith(b"\n\n"):
            return data  # what engines do: an event at a time, and all of it
        # A blank line may have begun in the bytes before.
        start = max(0, len(self._rest) - 3)
        self._rest += data
        end = max(self._rest.rfind(b"\n\n", start) + 2, self._rest.rfind(b"\n\r\n", start) + 3)
        if end < 3:  # neither was found
            events = b""
        else:
            events = bytes(self._rest[:end])
            del self._rest[:end]
        if len(self._rest) > self._limit:
            raise HeadraceError(
                Code.RESPONSE_TOO_LARGE, "The model sent an event that is too large."
            )
        return events

    @property
    def rest(self) -> bytes:
        """The torn event at the end."""
        return bytes(self._rest)


def split(events: bytes) -> list[bytes]:
    """Whole events, each with the blank line that ends it."""
    found = []
    start = 0
    for match in _BLANK_LINE.finditer(events):
        found.append(events[start : match.end()])
        start = match.end()
    if start < len(events):
        found.append(events[start:])
    return found


def around(events: bytes, place: int) -> tuple[int, int]:
    """Where the event begins that holds `place`, and where it ends."""
    start = max(events.rfind(b"\n\n", 0, place) + 2, events.rfind(b"\n\r\n", 0, place) + 3)
    ends = [
        found + len(blank)
        for blank in (b"\n\n", b"\n\r\n")
        if (found := events.find(blank, place)) >= 0
    ]
    return (start if start > 2 else 0), min(ends, default=len(events))


def is_done(events: bytes) -> bool:
    """Whether the last of `events` is the one that ends a stream of OpenAI's API."""
    tail = events[-64:].rstrip(b"\r\n")
    # JSON has no bare line break, so at the beginning of a line this is never a model's text.
    line = tail[tail.rfind(b"\n") + 1 :]
    return line in (_DONE, _DONE_TIGHT)


class _UsageObject(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct):
    usage: _UsageObject | None = None
    choices: list[msgspec.Raw] | None = None


_chunk: Final = msgspec.json.Decoder(_Chunk)


def usage_of(answer: bytes) -> Usage:
    """The usage in a whole answer's JSON, zero where it tells none."""
    try:
        found = _chunk.decode(answer).usage
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Usage()
    return _usage(found) if found else Usage()


def _usage(found: _UsageObject) -> Usage:
    return Usage(found.prompt_tokens or 0, found.completion_tokens or 0)


class UsageReader:
    """Notes the last usage of a stream, and takes out the event that only we have asked for.

    What has only the usage goes on with what follows it: a stream that breaks off has not told its
    usage, or has ended.
    """

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._held = b""
        self.usage = Usage()

    def read(self, events: bytes) -> bytes:
        """`events` as they are for the client."""
        # Within a JSON string the quotes would be escaped: a model's text never looks like this.
        if b'"usage"' not in events and not self._held:
            return events
        passed = []
        place = 0
        while place < len(events):
            found = events.find(b'"usage"', place)
            start, end = around(events, found) if found >= 0 else (len(events), len(events))
            if start > place:
                passed += [self._held, events[place:start]]
                self._held = b""
            if start < end:
                self._one(events[start:end], passed)
            place = end
        return b"".join(passed)

    def read_each(self, events: bytes) -> bytes:
        """The same, event by event."""
        passed: list[bytes] = []
        for event in split(events):
            self._one(event, passed)
        return b"".join(passed)

    def _one(self, event: bytes, passed: list[bytes]) -> None:
        made, only_usage = self.event(event)
        if only_usage and not self._keep:
            return
        passed.append(self._held)
        self._held = made if only_usage else b""
        if not only_usage:
            passed.append(made)

    def event(self, event: bytes) -> tuple[bytes, bool]:
        """One event as it is for the client, and whether it tells the usage and nothing else."""
        if b'"usage"' not in event:
            return event, False
        data = b"\n".join(
            line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")
        )
        try:
            chunk = _chunk.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return event, False
        if chunk.usage is None:
            return event, False
        self.usage = _usage(chunk.usage)
        return event, chunk.choices == []
