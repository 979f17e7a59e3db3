"""Token ids in the events of a stream: found in the bytes, and taken out again.

The worker asks vLLM for them (``return_token_ids``); without that the same events have the same
keys and null. Within a JSON string the quotes would be escaped: a model's text never looks like
these keys.
"""

import re
import struct
from typing import Final

from headrace.worker.stream import sse

_KEY: Final = b'token_ids":['
_IDS: Final = re.compile(rb'"token_ids":\[([0-9,]*)\]')
_NONE: Final = b'"token_ids":null'
_PROMPT_KEY: Final = b'"prompt_token_ids":['
_PROMPT: Final = re.compile(rb'"prompt_token_ids":\[[0-9,]*\]')
_QUIET: Final = (b'"content":""', b'"text":""', b'"delta":{}')
_SILENT: Final = re.compile(
    rb'(?:"delta":\{(?:"content":"")?\}|"text":""),"logprobs":null,"finish_reason":null'
)
# Of a token that a parser of tools or reasoning keeps to itself, and only because of the ids.
_EMPTY: Final = b'"delta":{},"logprobs":null,"finish_reason":null'

_ONE: Final = struct.Struct("<I")


def pack(ids: bytes) -> bytes:
    """Decimal numbers with commas between, as four bytes each, little-endian."""
    if ids.isdigit():
        return _ONE.pack(int(ids))
    numbers = [int(each) for each in ids.split(b",") if each]
    return struct.pack(f"<{len(numbers)}I", *numbers)


def unpack(packed: bytes) -> list[int]:
    """The numbers that `pack` has packed."""
    return list(struct.unpack(f"<{len(packed) // 4}I", packed))


class TokenIdExtractor:
    """Takes the ids out of one stream's events. Those of events without text wait for the text."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self.prompt = 0
        """Tokens of the prompt, 0 where they were not told."""
        self._given = 0

    @property
    def taken(self) -> int:
        """Tokens of the answer that were told so far."""
        return self._given + sum(map(_length, self._held))

    def take(self, events: bytes) -> tuple[bytes, bytes]:
        """Whole events as the client sees them, and the ids of their tokens, packed."""
        if _KEY not in events:  # the end of both keys
            return events, b""
        if _PROMPT_KEY in events:
            self._count_prompt(events)
            events = _PROMPT.sub(b'"prompt_token_ids":null', events)
        taken, ids = [], b""
        place = 0
        while place < len(events):
            # Looked for as they are: for an expression most events are long.
            finds = [found for quiet in _QUIET if (found := events.find(quiet, place)) >= 0]
            start, end = sse.around(events, min(finds)) if finds else (len(events), len(events))
            if start > place:
                pieces = _IDS.split(events[place:start])
                taken.append(_NONE.join(pieces[::2]))
                ids += self._release(pieces[1::2])
            if start < end:
                seen, more = self._take_each(events[start:end])
                taken.append(seen)
                ids += more
            place = end
        return b"".join(taken), ids

    def _count_prompt(self, events: bytes) -> None:
        found = _PROMPT.search(events)
        if found is not None:
            self.prompt = _length(found[0][len(_PROMPT_KEY) : -1])

    def _take_each(self, events: bytes) -> tuple[bytes, bytes]:
        kept, ids = [], b""
        for event in sse.split(events):
            pieces = _IDS.split(event)
            if _SILENT.search(event):
                self._held += pieces[1::2]
            else:
                ids += self._release(pieces[1::2])
            if _EMPTY not in event:
                kept.append(_NONE.join(pieces[::2]))
        return b"".join(kept), ids

    def _release(self, ids: list[bytes]) -> bytes:
        if self._held:
            ids, self._held = self._held + ids, []
        packed = pack(b",".join(ids))
        self._given += len(packed) // _ONE.size
        return packed


def _length(ids: bytes) -> int:
    return ids.count(b",") + 1 if ids else 0
