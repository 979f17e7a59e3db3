"""One streamed chat, shown as it happens: how it waits, and how its tokens come."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from headrace.cli.http import post_stream

PROMPT: Final = "What is a queue? Answer in one sentence."
MAX_TOKENS: Final = 48
TIMEOUT: Final = 600.0


class Comment(msgspec.Struct, frozen=True):
    """What the service says while the request waits."""

    text: str


class Token(msgspec.Struct, frozen=True):
    """A piece of the answer."""

    text: str


class ChatFailure(msgspec.Struct, frozen=True):
    """The request's typed error."""

    text: str


Event = Comment | Token | ChatFailure


def events(lines: Iterator[str]) -> Iterator[Event]:
    """The events of a stream's lines."""
    for line in lines:
        if line.startswith(":"):
            yield Comment(line[1:].strip())
        elif line.startswith("data: ") and line != "data: [DONE]":
            event = of_data(json.loads(line.removeprefix("data: ")))
            if event is not None:
                yield event


def of_data(data: dict[str, Any]) -> Event | None:
    """The event of one chunk; None where it brings no text."""
    if "error" in data:
        return ChatFailure(str(data["error"].get("message", "")))
    choices = data.get("choices") or [{}]
    text = choices[0].get("delta", {}).get("content")
    return Token(text) if text else None


def run(base_url: str, key: str, model: str, show: "Show") -> None:
    """Ask, and show what comes. Blocks until the answer is complete. Raises HttpError."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "stream": True,
    }
    began = time.monotonic()
    first = 0.0
    count = 0
    show.question(PROMPT)
    for event in events(post_stream(f"{base_url}/chat/completions", key, body, TIMEOUT)):
        now = time.monotonic() - began
        match event:
            case Comment(text):
                show.comment(f"[{now:5.1f} s] : {text}")
            case Token(text):
                first = first or now
                count += 1
                show.token(text)
            case ChatFailure(text):
                show.end(f"failed after {now:.1f} s: {text}")
                return
    total = time.monotonic() - began
    if not count:
        show.end(f"ended without an answer after {total:.1f} s")
        return
    rate = f", {(count - 1) / (total - first):.0f} per second" if count > 1 else ""
    show.end(f"first token after {first:.2f} s, {count} tokens in {total:.2f} s{rate}")


class Show(msgspec.Struct, frozen=True):
    """Where the story is told."""

    question: Callable[[str], None]
    comment: Callable[[str], None]
    token: Callable[[str], None]
    end: Callable[[str], None]
