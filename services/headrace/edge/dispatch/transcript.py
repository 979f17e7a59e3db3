"""What a stream has sent, kept so that another worker can go on after it. No I/O.

Chunks are kept as they came, which costs nothing per token. Only when they grow past some
kilobytes, or when a continuation is due, are their events read, all at once, and text and token ids
take their place.
"""

from typing import Final

import msgspec
from msgspec import Raw

from headrace.protocol.requests import Partial

COMPACT_BYTES: Final = 16 * 1024
"""So much of a stream is kept as it came: some sixty events."""

CHUNK_BYTES: Final = 64
"""What a chunk costs besides its bytes, so that empty ones are bounded, too."""

MAX_BYTES: Final = 4 * 1024 * 1024
"""Text and ids beyond this are not kept: a continuation has to fit into a message."""

_NOTHING: Final = frozenset({b"null", b"[]", b'""', b"{}"})


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: Raw = Raw(b"null")
    function_call: Raw = Raw(b"null")


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Raw = Raw(b"null")


class _Event(msgspec.Struct):
    id: str = ""
    created: int = 0
    choices: list[_Choice] = []
    usage: Raw = Raw(b"null")


_decoder: Final = msgspec.json.Decoder(_Event)


class Transcript:
    """One stream's, from its first chunk on."""

    __slots__ = (
        "_chunks",
        "_count",
        "_created",
        "_finish",
        "_id",
        "_raw",
        "_reasons",
        "_text",
        "_tokens",
        "_told",
        "_whole",
        "after",
        "odd",
    )

    def __init__(self) -> None:
        self.after = 0
        """Bytes of chunks so far."""
        self.odd = ""
        """What it holds that could not be said again to another worker; empty if nothing."""
        self._chunks: list[tuple[bytes, bool]] = []
        self._raw = 0
        self._tokens = bytearray()
        self._whole = True
        self._text = ""
        self._id = ""
        self._created = 0
        self._count = 0
        self._finish = ""
        self._told = False
        self._reasons = False

    @property
    def size(self) -> int:
        """Bytes kept, as nearly as it matters."""
        return self._raw + len(self._text) + len(self._tokens)

    def add(self, data: bytes, tokens: bytes) -> None:
        """Keep a chunk and the ids of its tokens."""
        self.after += len(data)
        if self.odd:
            return
        self._chunks.append((data, bool(tokens)))
        self._raw += len(data) + len(tokens) + CHUNK_BYTES
        if tokens:
            self._tokens += tokens
        if self._raw > COMPACT_BYTES:
            self._compact()

    def partial(self) -> Partial:
        """All of it, for another worker, which only helps where `why_not` is empty."""
        self._compact()
        tokens = self._ids()
        count = len(tokens) // 4 or self._count
        return Partial(
            self.after, self._id, self._created, self._text, tokens, count, self._finish, self._told
        )

    def why_not(self) -> str:
        """Why nobody could go on after this without a seam; empty where somebody can."""
        self._compact()
        if self.odd:
            return self.odd
        return "reasoning" if self._reasons and not (self._ids() and self._text) else ""

    @property
    def begun(self) -> bool:
        """Whether it holds more than the announcement of a role: text, or an end."""
        self._compact()
        return bool(self._text or self._count or self._finish or self.odd)

    def _ids(self) -> bytes:
        """The ids of all tokens, empty where some are missing or torn."""
        return bytes(self._tokens) if self._whole and len(self._tokens) % 4 == 0 else b""

    def _compact(self) -> None:
        if not self._chunks:
            return
        texts = [self._text]
        for events, has_tokens in self._chunks:
            before = self._count
            for line in events.splitlines():
                if line.startswith(b"data:") and not self.odd:
                    self._read(line[5:].strip(), texts)
            self._whole &= has_tokens or self._count == before
        self._chunks.clear()
        self._raw = 0
        self._text = "".join(texts)
        if len(self._text) + len(self._tokens) > MAX_BYTES:
            self.odd = "more than could be sent along"
        if self.odd:
            self._text = ""
            self._tokens.clear()

    def _read(self, data: bytes, texts: list[str]) -> None:
        if data == b"[DONE]":
            return
        try:
            event = _decoder.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            self.odd = "what is not an event of OpenAI's API"
            return
        self._id = self._id or event.id
        self._created = self._created or event.created
        for choice in event.choices:
            self.odd = self.odd or _odd(choice)
            delta = choice.delta
            text = delta.content if delta is not None else choice.text
            reasons = delta is not None and bool(delta.reasoning_content or delta.reasoning)
            if text:
                texts.append(text)
            self._reasons |= reasons
            self._count += bool(text) or reasons
            self._finish = choice.finish_reason or self._finish
        # llama.cpp tells it together with the reason, others in an event of its own.
        self._told |= bool(self._finish) and bytes(event.usage) not in _NOTHING


def _odd(choice: _Choice) -> str:
    """What a choice holds besides text."""
    if choice.index:
        return "several choices"
    if bytes(choice.logprobs) not in _NOTHING:
        return "log probabilities"
    delta = choice.delta
    if delta is None:
        return ""
    if bytes(delta.tool_calls) not in _NOTHING or bytes(delta.function_call) not in _NOTHING:
        return "a tool call"
    return "a refusal" if delta.refusal else ""
