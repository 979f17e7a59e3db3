"""llama.cpp's own count of tokens in the events of a stream: found in the bytes, and taken out.

The worker asks for it (``timings_per_token``), for a stream that is broken off has no usage, and an
event may be of several tokens: a character can be, and none is sent before it is whole. Within a
JSON string the quotes would be escaped: a model's text never looks like these keys.
"""

import re
from typing import Final

from headrace.protocol.frames import Usage
from headrace.worker.stream import sse

_KEY: Final = b'"timings":{'
_TIMINGS: Final = re.compile(
    rb',"timings":\{"cache_n":(\d+),"prompt_n":(\d+),[^{}]*?"predicted_n":(\d+)[^{}]*\}'
)
_INDEX: Final = re.compile(rb'"index":(\d+)')
_GOES_ON: Final = b'"finish_reason":null'
"""In the last event llama.cpp tells timings unasked."""


class TimingsExtractor:
    """Takes the counts out of one stream's events."""

    def __init__(self) -> None:
        self._prompt = 0
        self._answers: dict[bytes, int] = {}

    def take(self, events: bytes) -> bytes:
        """Whole events as they would be had nobody asked."""
        if _KEY not in events:
            return events
        return b"".join(map(self._take, sse.split(events)))

    @property
    def usage(self) -> Usage:
        """The tokens as told last, all choices together."""
        return Usage(self._prompt, sum(self._answers.values()))

    def _take(self, event: bytes) -> bytes:
        found = _TIMINGS.search(event)
        if found is None:
            return event
        cached, read, written = map(int, found.groups())
        self._prompt = cached + read
        index = _INDEX.search(event)
        self._answers[index[1] if index else b"0"] = written
        return _TIMINGS.sub(b"", event) if _GOES_ON in event else event
