"""What became of a request, judged by what it must say: pure functions of plain values."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from headrace.protocol.errors import Code
from loadtests.words import expected_text


class Asked(msgspec.Struct, frozen=True):
    """One request: the answer is a function of it."""

    content: str
    tokens: int
    chat: bool = True
    stream: bool = True
    usage: bool = False
    """Whether the stream is asked to tell its usage."""

    def body(self, model: str) -> dict[str, Any]:
        """Its JSON."""
        body: dict[str, Any] = {"model": model, "max_tokens": self.tokens, "stream": self.stream}
        if self.chat:
            body["messages"] = [{"role": "user", "content": self.content}]
        else:
            body["prompt"] = self.content
        if self.stream and self.usage:
            body["stream_options"] = {"include_usage": True}
        return body

    @property
    def text(self) -> str:
        """All that must be answered."""
        return expected_text(self.body(""), self.tokens)


class Seen(msgspec.Struct):
    """What its client has got."""

    text: str = ""
    done: bool = False
    status: int = 0
    error: str = ""
    """The code of a typed error."""
    broken: str = ""
    """What broke, where neither an end nor an error came."""
    refused: bool = False
    """Nobody listened: it was never asked."""
    ids: set[str] = msgspec.field(default_factory=set)
    roles: int = 0
    finishes: list[str] = []
    usages: list[int] = []
    """Completion tokens, as often as they were told."""
    comments: int = 0
    tokens: int = 0
    """Pieces of text that have come."""
    seconds: float = 0.0


class Kind(StrEnum):
    """How a request ended."""

    UNBROKEN = "unbroken"
    TYPED = "typed error"
    EDGE = "edge died"
    """Its connection broke because its edge did: the one exception."""
    LOST = "lost"
    """No end by its time."""
    HUNG = "hung"
    """Its deadline alone has ended it, long after every fault was over."""
    MISSING = "tokens lost"
    DOUBLED = "tokens doubled"
    REORDERED = "tokens reordered"
    WRONG = "wrong"
    """Other words, or a seam that shows: a second role, another id, usage that does not add up."""


GOOD: Final = frozenset({Kind.UNBROKEN, Kind.TYPED, Kind.EDGE})


class Edge(StrEnum):
    """What happened to the edge of a request meanwhile."""

    UP = "up"
    STOPPED = "stopped"
    """It was asked to end: who has a status has a right to an end as well."""
    KILLED = "killed"


class Verdict(msgspec.Struct, frozen=True):
    """The kind, and for typed errors the code, for bad ones what was seen."""

    kind: Kind
    detail: str = ""

    @property
    def good(self) -> bool:
        """Whether the service may do so."""
        return self.kind in GOOD


def judge(asked: Asked, seen: Seen, *, edge: Edge = Edge.UP) -> Verdict:
    """What became of it."""
    words, must = seen.text.split(" ") if seen.text else [], asked.text.split(" ")
    if words != must[: len(words)]:
        return _misread(words, must)
    if seen.error:
        return _typed(seen)
    if not seen.done:
        if seen.broken and (edge is Edge.KILLED or (edge is Edge.STOPPED and not seen.status)):
            return Verdict(Kind.EDGE, seen.broken)
        return Verdict(Kind.LOST, f"{seen.broken} after {seen.seconds:.1f} s, {len(words)} tokens")
    if len(words) < len(must):
        return Verdict(Kind.MISSING, f"ends after {len(words)} of {len(must)} tokens")
    flaw = _seam(asked, seen)
    return Verdict(Kind.WRONG, flaw) if flaw else Verdict(Kind.UNBROKEN)


def _typed(seen: Seen) -> Verdict:
    if seen.error not in set(Code):
        return Verdict(Kind.WRONG, f"error {seen.error!r} is none of ours")
    if seen.done:
        return Verdict(Kind.WRONG, f"{seen.error} and an end")
    if seen.error == Code.DEADLINE_EXCEEDED:
        return Verdict(Kind.HUNG, f"ended by its deadline after {seen.seconds:.0f} s")
    return Verdict(Kind.TYPED, seen.error)


def _misread(words: Sequence[str], must: Sequence[str]) -> Verdict:
    """Which mistake it is, by the first words that differ."""
    at = next((i for i, pair in enumerate(zip(words, must, strict=False)) if pair[0] != pair[1]),
              min(len(words), len(must)))  # fmt: skip
    told = f"at token {at}: {' '.join(words[at : at + 4])!r}, not {' '.join(must[at : at + 4])!r}"
    some = list(words[at : at + 3])
    before = [i for i in range(at) if must[i : i + len(some)] == some]
    after = [i for i in range(at + 1, len(must)) if must[i : i + len(some)] == some]
    if len(words) == len(must) and Counter(words) == Counter(must):
        return Verdict(Kind.REORDERED, told)
    if before:
        return Verdict(Kind.DOUBLED, told)
    if after and set(must[at : after[0]]) & set(words[at + 1 :]):
        return Verdict(Kind.REORDERED, told)
    if after:
        return Verdict(Kind.MISSING, told)
    return Verdict(Kind.WRONG, told)


def _seam(asked: Asked, seen: Seen) -> str:
    """What shows that several workers took part."""
    if seen.roles > 1:
        return f"{seen.roles} roles"
    if len(seen.ids) > 1:
        return f"ids {sorted(seen.ids)}"
    if seen.finishes != ["length"]:
        return f"finish reasons {seen.finishes}"
    counted = [asked.tokens] if asked.usage or not asked.stream else []
    if seen.usages != counted:
        return f"usage {seen.usages}, not {counted}"
    return ""
