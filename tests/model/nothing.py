"""Metrics that count nothing, and a log that tells a history."""

from collections.abc import Callable
from typing import Any

from tests.model.history import History, request_name


class Nothing:
    """Whatever is asked of it, it does, and it counts 0."""

    generated = 0

    def __getattr__(self, name: str) -> "Nothing":
        return self

    def __call__(self, *args: object, **kwargs: object) -> "Nothing":
        return self


class Metrics(Nothing):
    """The edge's: each is counted by its name."""

    def __init__(self, history: History) -> None:
        self._history = history

    def __getattr__(self, name: str) -> "Nothing":
        meter = Meter(self._history, name)
        setattr(self, name, meter)
        return meter


class Meter(Nothing):
    """One of them."""

    def __init__(self, history: History, name: str) -> None:
        self._history = history
        self._name = name

    def inc(self) -> None:
        """Once more."""
        self._history.seen[self._name] += 1


class Log:
    """A process's log."""

    def __init__(self, history: History, who: str, now: Callable[[], float]) -> None:
        self._history = history
        self._who = who
        self._now = now
        self.on: dict[str, Callable[[dict[str, Any]], None]] = {}
        """Who wants to hear of which action."""

    def info(self, action: str, **fields: Any) -> None:
        """Note it."""
        if action in self.on:
            self.on[action](fields)
        if self._history.kept:
            texts = [
                f"{name}={request_name(value) if name == 'request' else value}"
                for name, value in fields.items()
                if name in ("request", "attempt", "reason", "outcome", "count", "code", "queued")
            ]
            self._history.note(self._now(), self._who, " ".join([action, *texts]))

    debug = info
    warning = info
    error = info
