"""Spans of time as people write them: ``90s``, ``15m``, ``12h``, ``30d``, ``8w``, ``1y``."""

import re
from typing import Final

_SPAN: Final = re.compile(r"([0-9]{1,9})([smhdwy]?)", re.ASCII)
_UNITS: Final = {
    "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400,
}  # fmt: skip
MAX_SECONDS: Final = 100 * 365 * 86400


def seconds(text: str) -> int:
    """The seconds of a span. Raises ValueError."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"not a span of time like 90s, 12h or 30d: {text[:40]!r}")
    span = int(match[1]) * _UNITS[match[2]]
    if not 0 < span <= MAX_SECONDS:
        raise ValueError("a span of time must be above 0 and at most 100 years")
    return span
