"""Identifiers that may become part of a subject, and the only functions that admit them.

Everything that ends up as a token of a NATS subject passes through here first, so that no user
input becomes part of a subject unchecked (invariant 7).
"""

import re
import secrets
import time
from typing import Final, NewType

Slug = NewType("Slug", str)
"""A model's or cluster's name in subjects: ``[a-z0-9]`` then up to 63 of ``[a-z0-9-]``."""

RequestId = NewType("RequestId", str)
"""32 hex digits, the last 20 of them random: nobody else can guess it and address its frames."""

ProcessId = NewType("ProcessId", str)
"""One run of one edge or worker process: 16 to 32 of ``[a-z0-9]``."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_REQUEST_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_PROCESS_ID = re.compile(r"[a-z0-9]{16,32}", re.ASCII)
_NOT_SLUG = re.compile(r"[^a-z0-9]+", re.ASCII)

MAX_NAME: Final = 200

LANES: Final = ("high", "normal", "low")
"""The lanes of every model's queue, in the order of their weight."""


def slug(text: str) -> Slug:
    """Admit `text` as a slug, or raise ValueError."""
    if _SLUG.fullmatch(text) is None:
        raise ValueError(f"not a slug ([a-z0-9-], at most 64 characters): {text[:80]!r}")
    return Slug(text)


def model_name(text: str) -> str:
    """Admit `text` as a model's free-form name, or raise ValueError."""
    if not 0 < len(text) <= MAX_NAME or not text.isprintable():
        raise ValueError(f"a model's name has 1 to {MAX_NAME} printable characters")
    return text


def slug_of(name: str) -> Slug:
    """The slug made from a model's free-form name: ``Qwen/Qwen3-8B`` becomes ``qwen-qwen3-8b``."""
    return slug(_NOT_SLUG.sub("-", name.lower()).strip("-")[:64])


def lane(text: str) -> str:
    """Admit `text` as one of `LANES`, or raise ValueError."""
    if text not in LANES:
        raise ValueError(f"not a lane: {text[:80]!r}")
    return text


def request_id(text: str) -> RequestId:
    """Admit `text` as a request id, or raise ValueError."""
    if _REQUEST_ID.fullmatch(text) is None:
        raise ValueError("not a request id")
    return RequestId(text)


def process_id(text: str) -> ProcessId:
    """Admit `text` as a process id, or raise ValueError."""
    if _PROCESS_ID.fullmatch(text) is None:
        raise ValueError("not a process id")
    return ProcessId(text)


def is_process_id(text: str) -> bool:
    """Whether `process_id` would admit `text`."""
    return _PROCESS_ID.fullmatch(text) is not None


def is_request_id(text: str) -> bool:
    """Whether `request_id` would admit `text`."""
    return _REQUEST_ID.fullmatch(text) is not None


def new_request_id() -> RequestId:
    """A fresh request id: the time in milliseconds, then 80 bits of the system's random source.

    As in a UUID of version 7 (RFC 9562) the time comes first: ids of one hour are neighbours in an
    index. Random ones doubled what a row of the accounts takes in SQLite.
    """
    return RequestId(f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}")


def new_process_id() -> ProcessId:
    """A fresh process id from the system's random source."""
    return ProcessId(secrets.token_hex(8))
