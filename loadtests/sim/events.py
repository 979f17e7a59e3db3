"""A streamed answer as bytes: server-sent events in HTTP chunks, made from pieces cut beforehand.

What is the same in all events of a request is rendered once per request, so that a token costs the
joining of a few byte strings.
"""

from typing import Any, Final

from loadtests.sim.bodies import Task, encode
from loadtests.words import WORDS, indices, token_id, token_ids

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nserver: sim\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_LAST: Final = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_FIRST_WORDS: Final = [word.encode() for word in WORDS]
_WORDS: Final = [b" " + word for word in _FIRST_WORDS]
_LENGTHS: Final = sorted({len(word) for word in _FIRST_WORDS + _WORDS})
_HOLE: Final = "\0"
_HOLE_JSON: Final = rb"\u0000"
_ID: Final = b"%d" % token_id(0)


class Events:
    """The events of one answer, in order."""

    def __init__(self, task: Task, model: str) -> None:
        self._task = task
        self._model = model
        self._picked = indices(task.prompt, task.count)
        self._made = 0
        # Of an id as long as each: all of them have three digits.
        before, after = _chunk(self._event(_HOLE, 0)).split(_HOLE_JSON)
        _, _, before = before.partition(b"\r\n")
        fixed = len(before) + len(after) - 2
        self._after = after.split(_ID)
        self._before = {size: b"%x\r\n%b" % (fixed + size, before) for size in _LENGTHS}

    @property
    def left(self) -> int:
        """Tokens still to come."""
        return self._task.count - self._made

    def first(self) -> bytes:
        """What goes before the first token: of a chat, the role."""
        if not self._task.chat:
            return b""
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None}
        asked = self._task.prompt.ids if self._task.ids else None
        return _chunk(self._wrap({**choice, "finish_reason": None}, {"prompt_token_ids": asked}))

    def token(self) -> bytes:
        """The next token's event; the last one's carries the reason and what follows it."""
        n = self._made
        self._made = n + 1
        index = self._picked[n]
        word = _WORDS[index] if n or self._task.prompt.sent else _FIRST_WORDS[index]
        if self._made == self._task.count:
            return self._end(word.decode(), index)
        if self._task.ids:
            if not n and not self._task.chat:  # with the ids of the prompt
                return _chunk(self._event(word.decode(), index))
            before, after = self._after
            return b"%b%b%b%d%b" % (self._before[len(word)], word, before, token_id(index), after)
        return self._before[len(word)] + word + self._after[0]

    def _end(self, word: str, index: int) -> bytes:
        parts = [_chunk(self._event(word, index, self._task.finish))]
        if self._task.usage:
            parts.append(_chunk(self._wrap(None, {"usage": self._task.usage_counts})))
        return b"".join([*parts, _LAST])

    def _event(self, word: str, index: int | None, finish: str | None = None) -> dict[str, Any]:
        ids = token_ids(bytes([index])) if self._task.ids and index is not None else None
        ending = {"logprobs": None, "finish_reason": finish}
        choice: dict[str, Any]
        if self._task.chat:
            choice = {"index": 0, "delta": {"content": word}, **ending}
            if finish:
                choice["stop_reason"] = None
        else:
            asked = self._task.prompt.ids if self._task.ids and self._made == 1 else None
            choice = {"index": 0, "text": word, **ending, "stop_reason": None}
            choice["prompt_token_ids"] = asked
        choice["token_ids"] = ids
        return self._wrap(choice)

    def _wrap(
        self, choice: dict[str, Any] | None, more: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return {
            "id": self._task.id,
            "object": "chat.completion.chunk" if self._task.chat else "text_completion",
            "created": self._task.created,
            "model": self._model,
            "choices": [] if choice is None else [choice],
            **(more or {}),
        }


def _chunk(event: dict[str, Any]) -> bytes:
    data = b"data: %b\n\n" % encode(event)
    return b"%x\r\n%b\r\n" % (len(data), data)
