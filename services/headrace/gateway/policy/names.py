"""What users, groups and keys may be called, and the only functions that admit a name."""

import re
from typing import Final

_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@/|=:-]{0,199}", re.ASCII)
_GROUP: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@/:-]{0,99}", re.ASCII)
_KEY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_WAIT: Final = re.compile(r"(hold|fail|(?!0+(\.0*)?$)[0-9]{1,9}(\.[0-9]{1,3})?)?", re.ASCII)

MAX_LABEL: Final = 100
MAX_MODEL: Final = 200


def user(text: str) -> str:
    """Admit a user's name, such as ``ada@example.org``, or raise ValueError."""
    if _USER.fullmatch(text) is None:
        raise ValueError(f"not a user's name: {text[:80]!r}")
    return text


def group(text: str) -> str:
    """Admit a group's name, or raise ValueError."""
    if _GROUP.fullmatch(text) is None:
        raise ValueError(f"not a group's name: {text[:80]!r}")
    return text


def key_id(text: str) -> str:
    """Admit a key's id, or raise ValueError."""
    if _KEY_ID.fullmatch(text) is None:
        raise ValueError(f"not a key's id: {text[:80]!r}")
    return text


def label(text: str) -> str:
    """Admit what a person calls a key or an organisation, or raise ValueError. May be empty."""
    if len(text) > MAX_LABEL or not text.isprintable():
        raise ValueError(f"at most {MAX_LABEL} printable characters")
    return text


def model(text: str) -> str:
    """Admit a model's name, or ``*``, or raise ValueError."""
    if not 0 < len(text) <= MAX_MODEL or not text.isprintable():
        raise ValueError(f"not a model's name: {text[:80]!r}")
    return text


def wait(text: str) -> str:
    """Admit how long a key's requests wait: ``hold``, ``fail``, seconds above 0, or nothing."""
    if _WAIT.fullmatch(text) is None:
        raise ValueError("wait is hold, fail, or a number of seconds above 0")
    return text
