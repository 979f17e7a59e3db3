"""The events of a continuation, made those of the stream that it continues. No I/O."""

from typing import Any, Final

import msgspec

from headrace.protocol.endpoints import Endpoint
from headrace.protocol.frames import Usage
from headrace.protocol.requests import Partial
from headrace.worker.stream import sse

DONE: Final = b"data: [DONE]\n\n"
_DATA: Final = b"data:"

_decoder: Final = msgspec.json.Decoder(dict[str, Any])


class EventRewriter(sse.UsageReader):
    """Rewrites each event.

    They keep the stream's `id` and `created`, no second role comes, and the usage counts the
    `count` tokens before and the `prompt_tokens` of the client's own prompt, where that is known.
    With `chat` the events are a completion's, and become those of a chat.
    """

    def __init__(
        self,
        partial: Partial,
        *,
        keep_usage: bool,
        chat: bool = False,
        count: int = 0,
        prompt_tokens: int | None = None,
    ) -> None:
        super().__init__(keep=keep_usage)
        self._partial = partial
        self._chat = chat
        self._count = count
        self._prompt_tokens = prompt_tokens
        self.usage = Usage(prompt_tokens or 0, count)

    def read(self, events: bytes) -> bytes:
        """`events` as they are for the client."""
        return self.read_each(events)

    def event(self, event: bytes) -> tuple[bytes, bool]:
        """The event, rewritten; see `sse.UsageReader`."""
        data = event.strip().removeprefix(_DATA)
        try:
            said = _decoder.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return event, False
        if not isinstance(said.get("choices"), list):
            return event, False
        if usage := said.get("usage"):
            said["usage"] = self._counted(usage)
        if self._partial.id:
            said |= {"id": self._partial.id, "created": self._partial.created}
            if said["choices"] and all(map(_only_role, said["choices"])):
                return b"", False
            for choice in said["choices"]:
                (choice.get("delta") or {}).pop("role", None)
        if self._chat:
            said["object"] = "chat.completion.chunk"
            said["choices"] = list(map(_of_chat, said["choices"]))
        return encode(said), bool(usage) and not said["choices"]

    def _counted(self, usage: dict[str, Any]) -> dict[str, Any]:
        asked = usage.get("prompt_tokens") or 0
        if self._prompt_tokens is not None:
            asked = self._prompt_tokens
        self.usage = Usage(asked, self._count + (usage.get("completion_tokens") or 0))
        return counts(self.usage)


def counts(usage: Usage) -> dict[str, int]:
    """The usage object of an event."""
    asked, made = usage.prompt_tokens, usage.completion_tokens
    return {"prompt_tokens": asked, "total_tokens": asked + made, "completion_tokens": made}


def encode(event: dict[str, Any]) -> bytes:
    """One event of a stream."""
    return b"data: %b\n\n" % msgspec.json.encode(event)


def ending(
    partial: Partial, endpoint: Endpoint, model: str, usage: Usage, *, keep_usage: bool
) -> bytes:
    """The events that are missing where all tokens have been sent."""
    chat = endpoint is Endpoint.CHAT
    event: dict[str, Any] = {
        "id": partial.id,
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": partial.created,
        "model": model,
    }
    said = b""
    if not partial.finish:
        choice: dict[str, Any] = {"index": 0}
        choice["delta" if chat else "text"] = {} if chat else ""
        choice |= {"logprobs": None, "finish_reason": "length"}
        said += encode(event | {"choices": [choice]})
    if keep_usage:
        said += encode(event | {"choices": [], "usage": counts(usage)})
    return said + DONE


def _only_role(choice: dict[str, Any]) -> bool:
    delta: dict[str, Any] = choice.get("delta") or {}
    return (
        "role" in delta
        and not choice.get("finish_reason")
        and not any(each for name, each in delta.items() if name != "role")
    )


def _of_chat(choice: dict[str, Any]) -> dict[str, Any]:
    finish = choice.get("finish_reason")
    made: dict[str, Any] = {
        "index": choice.get("index", 0),
        "delta": {"content": choice.get("text") or ""},
        "logprobs": None,
        "finish_reason": finish,
    }
    if finish:
        made["stop_reason"] = choice.get("stop_reason")
    return made | {"token_ids": choice.get("token_ids")}
