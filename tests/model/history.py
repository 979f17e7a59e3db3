"""What happened in one run, in lines for a reader."""

from collections import Counter

from headrace.protocol.control import Cancel, Control, Credit, Gone, Resume
from headrace.protocol.frames import Accepted, Chunk, End, Fail, Frame, Head


class Violation(AssertionError):
    """An invariant does not hold."""


class History:
    """Lines are kept only where somebody wants to read them; counts always."""

    def __init__(self, *, kept: bool, start: float) -> None:
        self.kept = kept
        self.lines: list[str] = []
        self.faults: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        """Turns that the run took, to know that the model reaches them."""
        self._start = start

    def note(self, now: float, who: str, what: str) -> None:
        """Something has happened. Who calls often asks for `kept` first."""
        if self.kept:
            self.lines.append(f"{now - self._start:9.3f}  {who:<8} {what}")


def request_name(id: str) -> str:
    """The short name of a request of the model."""
    return f"r{int(id, 16)}"


def frame_text(frame: Frame) -> str:
    """A frame in few words."""
    place = f"{frame.attempt}/{frame.seq}"
    match frame:
        case Accepted(worker=worker, after=after):
            return f"Accepted {place} by {worker.rstrip('0')} after={after}"
        case Head(status=status):
            return f"Head {place} {status}"
        case Chunk(data=data):
            return f"Chunk {place} {len(data)} bytes"
        case End(usage=usage):
            return f"End {place} usage={usage.prompt_tokens}+{usage.completion_tokens}"
        case Fail(code=code, retryable=retryable):
            return f"Fail {place} {code}{' retryable' if retryable else ''}"


def control_text(control: Control) -> str:
    """A control message in few words."""
    if isinstance(control, Gone):
        return f"Gone {control.edge}"
    name = request_name(control.request)
    match control:
        case Cancel(attempt=attempt):
            return f"Cancel {name} {attempt or 'any'}"
        case Resume(attempt=attempt, next_seq=next_seq):
            return f"Resume {name} {attempt}/{next_seq}"
        case Credit(attempt=attempt, limit=limit):
            return f"Credit {name} {attempt} up to {limit}"
