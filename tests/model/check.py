"""What must hold in every history, checked as it goes and at its end."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.edge.dispatch.response_assembler import MAX_LOSSES
from headrace.edge.options import EdgeOptions
from headrace.protocol.requests import Request
from tests.model.history import History, Violation

if TYPE_CHECKING:
    from tests.model.edge import Asked
    from tests.model.engine import Task
    from tests.model.loop import Clock
    from tests.model.queue import Stored

__all__ = ["Check", "Story", "Violation"]

STOP_SECONDS = 2.0
"""After a client has left its engine stops within this time (invariant 3)."""

READING_SECONDS = EdgeOptions(secret_file="x").slow_reader_seconds + 61.0
"""And a client that does not read is waited for so long, counted from the last frame: a worker that
was stopped may send one a minute later."""

LATE_SECONDS = 1.0
"""A request may end so long after its deadline: the edge looks twice a second."""


class _Delta(msgspec.Struct):
    content: str = ""


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None


class _Error(msgspec.Struct):
    code: str


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    error: _Error | None = None


_event = msgspec.json.Decoder(_Event)


@dataclass
class Story:
    """One request, as its client and the engines see it."""

    asked: "Asked"
    text: str
    """What it should get."""
    seen: int = 0
    """How much of that it has got."""
    done: int = 0
    """How often its stream was said to be over."""
    error: str = ""
    outcome: str = ""
    usage: int = 0
    left_at: float | None = None
    answered: bool = False
    closed_at: float | None = None
    accepted: bool = False
    """Whether the edge has heard of a worker that has it."""
    attempts: dict[int, str] = field(default_factory=dict)
    """The worker of each attempt."""
    ended: dict[int, bool] = field(default_factory=dict)
    """Attempts that have ended, and whether with the end of the answer."""
    told_at: dict[int, float] = field(default_factory=dict)
    """When an attempt first sent something that the edge must have heard, after its client left."""
    killed: int = 0
    """Workers that it has killed."""
    messages: list[int] = field(default_factory=list)
    """What of it the queue has taken in, by number in the stream."""


class Check:
    """Watches one history. `clean_since` tells since when nothing disturbs a worker's messages."""

    def __init__(self, history: History, clock: "Clock") -> None:
        self.history = history
        self._clock = clock
        self._now = clock.time
        self.over_and_done = False
        """Whether the history has been judged: what is torn down then is of no matter."""
        self.stories: dict[str, Story] = {}
        self._numbers: dict[int, Story] = {}
        self.on_leave: Callable[[Story], None] = lambda _: None
        self.clean_since: Callable[[str], float | None] = lambda _: None

    def fail(self, what: str) -> None:
        """An invariant does not hold: the history ends here."""
        violation = Violation(what)
        if not self.over_and_done and self._clock.crash is None:
            self._clock.crash = violation
        raise violation

    @property
    def over(self) -> bool:
        """Whether every client has gone."""
        return all(story.closed_at is not None for story in self.stories.values())

    def task(self, id: str) -> "Task":
        """What a request asks for."""
        return self.stories[id].asked.task

    # The client's side

    def expect(self, asked: "Asked") -> None:
        """It will come."""
        story = Story(asked, asked.task.text)
        self.stories[asked.id] = self._numbers[asked.number] = story

    def asked(self, asked: "Asked") -> None:
        """It has come."""
        self._note(asked.number, f"asks for {asked.task.tokens} tokens")

    def leaves(self, number: int) -> bool:
        """The client leaves, if it is there still."""
        story = self._numbers[number]
        if story.answered or story.closed_at is not None:
            return False
        story.left_at = self._now()
        self._note(number, "leaves")
        self.on_leave(story)
        return True

    def received(self, number: int, status: int, body: bytes) -> None:
        """A part of the answer has come."""
        story = self._numbers[number]
        if story.asked.stream and status == 200:
            for line in body.splitlines():
                if line.startswith(b"data:"):
                    self._read(story, line[5:].strip())
        elif body:
            self._read(story, body)

    def answered(self, number: int) -> None:
        """The answer is complete."""
        story = self._numbers[number]
        if story.answered:
            self.fail(f"r{number} was ended twice")
        story.answered = True
        self._note(number, f"has its answer, {story.error or 'whole'}")

    def accepted(self, fields: dict[str, Any]) -> None:
        """The edge has heard that a worker has it."""
        self.stories[fields["request"]].accepted = True

    def finished(self, fields: dict[str, Any]) -> None:
        """The edge has written its line of account."""
        story = self.stories[fields["request"]]
        if story.outcome:
            self.fail(f"r{story.asked.number} was accounted twice")
        story.outcome, story.usage = fields["outcome"], fields["completion_tokens"]

    def closed(self, number: int) -> None:
        """The edge has done with the connection."""
        story = self._numbers[number]
        story.closed_at = self._now()
        story.outcome = story.outcome or f"refused: {story.error}"
        name, outcome = f"r{number}", story.outcome
        late = self._now() - story.asked.at - story.asked.deadline
        if late > LATE_SECONDS + (READING_SECONDS if story.asked.reads_every else 0.0):
            self.fail(f"{name} ended {late:.1f} s after its deadline")
        reads = story.left_at is None and story.asked.reads_every >= 0
        if reads and not story.answered:
            self.fail(f"{name} was closed without an end")
        if outcome == "ok" and story.left_at is None:
            if story.error or story.seen != len(story.text):
                self.fail(f"{name} ended well after {story.seen} of {len(story.text)} letters")
            if story.usage != story.asked.task.tokens:
                self.fail(f"{name} of {story.asked.task.tokens} tokens counted {story.usage}")
            if story.asked.stream and not story.done:
                self.fail(f"{name} was never told that its stream is over")
            self.history.seen["done twice"] += story.done > 1
        elif reads and not story.error:
            self.fail(f"{name} ended with {outcome}, of which its client was not told")
        self.history.outcomes["client left" if story.left_at is not None else outcome] += 1

    def _read(self, story: Story, data: bytes) -> None:
        if data == b"[DONE]":
            story.done += 1
            return
        event = _event.decode(data)
        if event.error is not None:
            story.error = event.error.code
        for choice in event.choices:
            given = choice.delta or choice.message
            if given is None or not given.content:
                continue
            if not story.text.startswith(given.content, story.seen):
                expected = story.text[story.seen : story.seen + 12]
                self.fail(
                    f"r{story.asked.number} was sent {given.content[:40]!r} where {expected!r}"
                    " should follow"
                )
            story.seen += len(given.content)

    # The workers' side

    def begun(self, request: Request, number: int, worker: str) -> None:
        """A worker begins an attempt."""
        story = self.stories[request.id]
        if number in story.attempts:
            self.fail(
                f"r{story.asked.number}: attempt {number} of {story.attempts[number]} was begun"
                f" again by {worker}"
            )
        story.attempts[number] = worker
        self.history.seen["attempts"] += 1
        if request.partial is not None:
            self.history.seen["continued" if request.partial.text else "begun anew"] += 1

    def working(self, id: str, number: int, worker: str) -> None:
        """An engine has written a token, which its worker is about to send."""
        story = self.stories[id]
        if story.left_at is None:
            return
        clean = self.clean_since(worker)
        if clean is None:
            story.told_at.pop(number, None)
            return
        now = self._now()
        told = story.told_at.get(number, 0.0)
        if told < max(clean, story.left_at):
            told = story.told_at[number] = now
        if now - told > STOP_SECONDS:
            self.fail(
                f"r{story.asked.number}: the engine of {worker} works on attempt {number}"
                f" {now - story.left_at:.1f} s after the client left"
            )

    def ended(self, id: str, number: int, *, complete: bool) -> None:
        """An attempt has ended."""
        self.stories[id].ended[number] = complete

    def stored(self, stored: "Stored") -> None:
        """The queue has taken a message in."""
        self.stories[stored.request].messages.append(stored.seq)

    def acknowledged(self, stored: "Stored", first: int) -> None:
        """A message leaves the queue because a worker says so; `first` is its attempts' base.

        The backlog is what the queue says: nothing that is in work may be missing from it.
        """
        story = self.stories[stored.request]
        over = story.closed_at is not None or story.left_at is not None
        late = self._now() >= story.asked.at + story.asked.deadline
        newer = story.messages[-1] != stored.seq
        done = any(whole or number > first for number, whole in story.ended.items())
        if not (over or late or newer or done):
            self.fail(f"r{story.asked.number} left the queue while it was in work")

    # The end

    def judge(self, calm_at: float, losses: int, slack: float) -> None:
        """Whether every request ended as it should have, when all are over.

        From `calm_at` on nothing was disturbed, and before that `losses` faults could have cost a
        request its worker. One that has `slack` seconds left then must end well.
        """
        for story in self.stories.values():
            asked, name = story.asked, f"r{story.asked.number}"
            if story.closed_at is None:
                self.fail(f"{name} has not ended")
            if story.left_at is not None or story.outcome == "ok":
                continue
            if story.killed > MAX_LOSSES and story.killed == losses:
                self.fail(f"{name} has killed {story.killed} workers")
            time_left = asked.at + asked.deadline - calm_at
            excuses = {
                "deadline_exceeded": time_left < slack or asked.reads_every != 0,
                "not_continued": not asked.seamless and asked.stream,
                "given_up": losses >= MAX_LOSSES,
                "slow_reader": asked.reads_every < 0,
                "refused: service_unavailable": self.history.faults["hub restarted"] > 0,
                "service_unavailable": asked.at < calm_at and not story.accepted,
            }
            if not excuses.get(story.outcome, False):
                self.fail(f"{name} ended with {story.outcome}")

    def _note(self, number: int, what: str) -> None:
        self.history.note(self._now(), f"client {number}", what)
