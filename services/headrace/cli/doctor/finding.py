"""One thing that was looked at."""

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How it is."""

    OK = "ok"
    WARNING = "warning"
    """It may be meant so."""
    BAD = "bad"


class Finding(msgspec.Struct, frozen=True):
    """What was looked at, how it is, and what to do where it is not well."""

    hop: str
    level: Level
    told: str
    todo: str = ""


def ok(hop: str, told: str) -> Finding:
    """It is well."""
    return Finding(hop, Level.OK, told)


def warning(hop: str, told: str, todo: str) -> Finding:
    """It may be meant so."""
    return Finding(hop, Level.WARNING, told, todo)


def bad(hop: str, told: str, todo: str) -> Finding:
    """It does not work like this."""
    return Finding(hop, Level.BAD, told, todo)
