"""Answers in the making: what the batch advances, and what then goes down the connection."""

from typing import Protocol

from loadtests.sim.bodies import Task, whole
from loadtests.sim.events import HEAD, Events
from loadtests.words import indices, text_of, token_ids


class Connection(Protocol):
    """Where an answer goes."""

    @property
    def paused(self) -> bool:
        """Whether the client reads too slowly to be sent more."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def reply(self, status: int, body: bytes) -> None:
        """Send a complete response."""

    def finished(self) -> None:
        """The response is complete: the next request may be answered."""


class Streamed:
    """Tokens as they come. What was made while a slow client did not read waits here."""

    def __init__(self, connection: Connection, task: Task, model: str) -> None:
        self._connection = connection
        self._events = Events(task, model)
        self._begun = False
        self.left = task.count
        connection.write(HEAD)

    def advance(self, count: int) -> None:
        """Make up to `count` more tokens and send what the connection takes."""
        self.left = max(0, self.left - count)
        if not self._connection.paused:
            self.flush()

    def flush(self) -> None:
        """Send what is made and not yet sent, in one write."""
        events = self._events
        due = events.left - self.left
        if not due:
            return
        if not self._begun:
            self._begun = True
            self._connection.write(events.first())
        if due == 1:
            self._connection.write(events.token())
        else:
            self._connection.write(b"".join([events.token() for _ in range(due)]))
        if not events.left:
            self._connection.finished()


class Whole:
    """An answer that is sent when its last token is made."""

    def __init__(self, connection: Connection, task: Task, model: str) -> None:
        self._connection = connection
        self._task = task
        self._model = model
        self.left = task.count

    def advance(self, count: int) -> None:
        """Make up to `count` more tokens."""
        self.left = max(0, self.left - count)
        if self.left:
            return
        picked = indices(self._task.prompt, self._task.count)
        text = text_of(picked, self._task.prompt.sent)
        self._connection.reply(200, whole(self._task, self._model, text, token_ids(picked)))

    def flush(self) -> None:
        """Nothing is held back: the transport takes a whole answer."""
