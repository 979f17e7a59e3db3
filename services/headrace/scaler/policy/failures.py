"""What follows from jobs that fail: wait longer each time, avoid a node, at last give up."""

from collections import Counter
from typing import Final

import msgspec

from headrace.scaler.policy.observations import EndedJob, JobOutcome
from headrace.scaler.spec import Scaling

FIRST_SECONDS: Final = 30.0
LONGEST_SECONDS: Final = 1800.0
"""Back-off doubles from the first to the longest."""

RETRY_SECONDS: Final = 3600.0
"""A model that has failed is tried with one job after so long: causes outside of it may be gone."""

NODE_FAILURES: Final = 2
NODE_SECONDS: Final = 6 * 3600.0
"""So many failures within so long exclude a node, unless the model fails on others as well."""

STILL_FAILURES: Final = 2 * NODE_FAILURES
"""So many in a row, though nodes are avoided by then, are not the nodes' fault. On a small cluster
there would soon be none left to recover on."""

KEPT: Final = 32
MOST_NODES: Final = 8
"""A model that dies on many nodes has a fault of its own."""


class JobFailure(msgspec.Struct, frozen=True):
    """One job that failed."""

    at: float
    served: bool
    """Whether it was ready before."""
    node: str
    reason: str


class JobFailures(msgspec.Struct):
    """The failures of a model that still count."""

    recent: list[JobFailure] = msgspec.field(default_factory=list)
    in_a_row: int = 0
    """Since a job was last ready, and stayed so for a while."""

    def ended(self, job: EndedJob) -> None:
        """Take in how a job ended."""
        if job.outcome is JobOutcome.FAILED:
            if job.served and self.last is not None and not self.last.served:
                self.in_a_row = 0  # what ended those before it has not ended this one
            self.recent.append(JobFailure(job.at, job.served, job.node, job.reason))
            del self.recent[:-KEPT]
            self.in_a_row += 1

    def proven(self) -> None:
        """A job serves: the model works, whatever is wrong with some node."""
        self.in_a_row = 0

    @property
    def last(self) -> JobFailure | None:
        """The newest failure."""
        return self.recent[-1] if self.recent else None

    def given_up(self, spec: Scaling) -> bool:
        """Whether the model counts as failed."""
        return self.in_a_row >= spec.failures_to_give_up

    def wait_until(self, spec: Scaling) -> float:
        """The moment before which nothing may be submitted, 0 if there is none."""
        if not self.in_a_row or self.last is None:
            return 0.0
        if self.given_up(spec):
            return self.last.at + RETRY_SECONDS
        if self.in_a_row == 1 and self.last.served:
            return 0.0  # a node died or an engine fell: one that serves is replaced at once
        seconds = FIRST_SECONDS * float(2 ** min(self.in_a_row - 1, 16))
        return self.last.at + min(seconds, LONGEST_SECONDS)

    def nodes_to_avoid(self, now: float) -> tuple[str, ...]:
        """Nodes on which jobs failed again and again, the worst first."""
        counts = Counter(
            each.node for each in self.recent if each.node and now - each.at < NODE_SECONDS
        )
        if self.in_a_row >= STILL_FAILURES:
            return ()
        bad = [node for node, count in counts.most_common() if count >= NODE_FAILURES]
        return tuple(bad) if len(bad) <= MOST_NODES else ()
