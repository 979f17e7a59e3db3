"""Logs: one JSON object per line with ``action=`` and, where there is one, the request's id.

Fields pass an allow-list, so that a prompt cannot slip in (invariant 4): a field that is not on it
is replaced by its type. Of an exception only the type and the places in the code are kept, because
its text may quote what it choked on.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Final

import msgspec
import structlog

ALLOWED: Final = frozenset(
    {
        # what structlog adds, and which process speaks
        "action", "level", "time", "process", "pid",
        # who and where
        "request", "edge", "worker", "cluster", "model", "lane", "tenant", "endpoint", "attempt",
        "engine", "address", "path", "method",
        # what happened
        "code", "outcome", "phase", "previous", "reason", "signal", "status", "error", "places",
        "version",
        # how much
        "seconds", "first_byte", "bytes", "frames", "prompt_tokens", "completion_tokens", "count",
        "running", "slots", "queued", "limit", "exit_code", "seq", "expected",
    }
)  # fmt: skip
"""The fields that a log line may have. Add one only if it can never hold a user's text."""

_KNOWN: Final = ALLOWED | {"event"}

Logger = structlog.typing.FilteringBoundLogger


def setup(process: str, level: str = "info") -> Logger:
    """Configure logging of this process to standard error and return its logger."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _exception_places,
            _only_allowed,
            structlog.processors.EventRenamer("action"),
            structlog.processors.JSONRenderer(serializer=_line),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    # Libraries' own records may quote data: only their warnings' logger and level are let through.
    logging.basicConfig(handlers=[_LibraryHandler()], level=logging.WARNING, force=True)
    logger: Logger = structlog.get_logger(process=process)
    return logger


def _line(event: MutableMapping[str, Any], **_: Any) -> bytes:
    # Several times faster than the standard library's, and there are lines per request.
    return msgspec.json.encode(event, enc_hook=repr)


def _only_allowed(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if event.keys() <= _KNOWN:
        return event
    for key, value in event.items():
        if key != "event" and key not in ALLOWED:
            event[key] = f"<withheld {type(value).__name__}>"
    return event


def _exception_places(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["places"] = [
            f"{frame.filename.rpartition('headrace/')[2]}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)[-8:]
        ]
    return event


class _LibraryHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        structlog.get_logger().warning(
            "library_warning",
            path=f"{record.name}:{record.lineno}",
            error=type(error).__name__ if error else record.levelname,
        )
