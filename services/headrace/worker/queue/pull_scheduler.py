"""How many requests to ask for, and from which lanes. A state machine without I/O or clock.

Two kinds of pulls:

- A **standing** pull waits at the queue for one request. While a slot is free each lane has one,
  so that a request that comes to an empty queue goes to a worker at once.
- A **batch** pull takes what is there and waits for nothing, so that it is settled within a round
  trip. Every delivery tells how many more requests its lane holds; while lanes are known to hold
  some, free slots are shared out among them by smooth weighted round robin (as in nginx). Before
  that, lanes above them that were empty are looked into.

Requests asked for, held and running never exceed the slots by more than the lanes less one: the
standing pulls of several lanes may be answered at once. What is too much is held by the caller.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

STANDING_SECONDS: Final = 2.0
"""How long a standing pull waits. One that a restart of the queue or a cut link has lost is
missed for no longer than this and the grace; a worker that drains waits as long for stragglers."""

UNSURE_SECONDS: Final = 0.5
"""The same for a lane that has not answered yet, or no more. A consumer that is not there says
nothing: only a short pull finds out soon that it is back."""

GRACE_SECONDS: Final = 1.0
"""So long after its time a pull that was never settled counts as lost."""

BATCH_SECONDS: Final = 2.0
"""A batch pull that was not settled in this time is lost too: far above any round trip."""

RETRY_SECONDS: Final = 0.5
"""Between tries where a lane's consumer is going, or the link is down."""

STALE_SECONDS: Final = 0.25
"""How long a lane that was empty is taken to be empty while others have a backlog."""

LOOK_SECONDS: Final = 0.05
"""The same where the backlog is in a lane below it: what comes there waits so much longer than it
must. Shorter, and where answers are short the queue would mostly be asked in vain."""

EMPTY: Final = frozenset({"404", "408"})
"""Status of a pull that has ended because nothing (more) was there."""

NO_RESPONDERS: Final = "503"
"""Status where nobody listens for pulls: the link to the queue is down."""


class Pull(NamedTuple):
    """Ask a lane for up to `batch` requests; with `expires` 0 only for what is there at once."""

    number: int
    lane: str
    batch: int
    expires: float


@dataclass
class _OpenPull:
    lane: "_Lane"
    left: int
    lost_at: float
    standing: bool
    look: bool
    """Whether it looks into a lane that was empty, before a slot is given to one below."""


@dataclass
class _Lane:
    name: str
    weight: int
    turn: int = 0
    backlog: int = 0
    told_at: float = float("-inf")
    retry_at: float = float("-inf")
    sure: bool = False
    pulls: int = 0
    """Pulls that are under way."""
    batched: int = 0
    """Requests that its batch pulls may still bring."""


class PullScheduler:
    """Decides about pulls. `now` is any clock that does not run backwards."""

    def __init__(self, slots: int, weights: Mapping[str, int]) -> None:
        self._slots = slots
        self._lanes = {name: _Lane(name, weight) for name, weight in weights.items()}
        self._asked: dict[int, _OpenPull] = {}
        self._number = 0
        self._batched = 0
        self._look_at = float("inf")
        """Before then no pull can be lost."""
        self.outstanding = 0
        """Requests asked for that may still come."""

    def plan(self, busy: int, now: float) -> list[Pull]:
        """The pulls to send now, when `busy` requests are held or running."""
        self.expire(now)
        ready = [lane for lane in self._lanes.values() if lane.retry_at <= now]
        pulls, passed = self._look(ready, busy, now)
        had_room = busy + self._batched < self._slots
        pulls += self._share_out(ready, passed, busy, now)
        for lane in ready:
            if lane.pulls:
                continue
            if self.outstanding + busy >= self._slots + len(self._lanes) - 1:
                break
            if busy + self._batched < self._slots:
                pulls.append(self._ask(lane, 1, now, standing=True))
            elif had_room and not lane.backlog and now - lane.told_at >= STALE_SECONDS:
                # The last slots went to lanes with a backlog. Look into the empty ones too, or a
                # request there would not be seen for as long as the backlog lasts.
                pulls.append(self._ask(lane, 1, now, standing=False))
        return pulls

    def expire(self, now: float) -> None:
        """Count pulls as lost whose time is over."""
        if now < self._look_at:
            return
        for number, asked in list(self._asked.items()):
            if asked.lost_at <= now:
                asked.lane.sure = False
                if not asked.standing:  # a lane that says nothing must not keep the slot for ever
                    asked.lane.retry_at = now + RETRY_SECONDS
                self._forget(number)
        self._look_at = min((each.lost_at for each in self._asked.values()), default=float("inf"))

    def delivered(self, lane: str, pending: int, now: float) -> None:
        """A request of `lane` has come, and `pending` more wait there."""
        known = self._lanes.get(lane)
        if known is None:
            return
        known.backlog = pending
        known.told_at = now
        known.sure = True
        # Batch pulls first: where a standing one waits no backlog was there when they were sent.
        mine = [(n, asked) for n, asked in self._asked.items() if asked.lane is known]
        for number, asked in sorted(mine, key=lambda each: (each[1].standing, each[0]))[:1]:
            asked.left -= 1
            self.outstanding -= 1
            if not asked.standing:
                known.batched -= 1
                self._batched -= 1
            if asked.look:
                self._count(known)
            if asked.left == 0:
                self._forget(number)

    def settled(self, number: int, lane: str, status: str, now: float) -> None:
        """Pull `number` has ended with `status`, less than filled."""
        self._forget(number)
        known = self._lanes.get(lane)
        if known is None:
            return
        known.backlog = 0
        known.told_at = now
        known.sure = status in EMPTY
        if status == NO_RESPONDERS:
            self.reset()  # whatever was asked for through that link is lost too
            for each in self._lanes.values():
                each.retry_at = now + RETRY_SECONDS
        elif status not in EMPTY:
            known.retry_at = now + RETRY_SECONDS

    def reset(self) -> None:
        """The connection is another one: every pull is lost, and nothing is known."""
        for number in list(self._asked):
            self._forget(number)
        for lane in self._lanes.values():
            lane.backlog = 0
            lane.sure = False
            lane.told_at = lane.retry_at = float("-inf")

    def _look(self, ready: list[_Lane], busy: int, now: float) -> tuple[list[Pull], list[_Lane]]:
        """Look into the lanes above those with a backlog, before a free slot is given to these.

        Also the lanes that are passed over, for it is not their turn.

        The slot waits for a round trip. Were both asked for at once, what comes from below would
        be held, and take the next slot from what comes above in the meantime. What a look brings
        counts as the lane's turn, and where it is not its turn there is no look: else those above
        could keep those below waiting for ever.
        """
        if busy + self._batched >= self._slots:
            return [], []
        waiting = [lane for lane in ready if lane.backlog]
        least = min((lane.weight for lane in waiting), default=float("inf"))
        owed = max((lane.turn + lane.weight for lane in waiting), default=0)
        above = [lane for lane in ready if lane.weight > least and not lane.backlog]
        stale = [lane for lane in above if not lane.pulls and now - lane.told_at >= LOOK_SECONDS]
        due = [lane for lane in stale if lane.turn + lane.weight >= owed]
        room = self._slots + len(self._lanes) - 1 - busy - self.outstanding
        looks = [self._ask(each, 1, now, standing=False, look=True) for each in due[: max(room, 0)]]
        return looks, [lane for lane in stale if lane not in due]

    def _count(self, taken: _Lane) -> None:
        """It was this lane's turn, among those that hold something."""
        among = [lane for lane in self._lanes.values() if lane.backlog or lane is taken]
        for lane in among:
            lane.turn += lane.weight
        taken.turn -= sum(lane.weight for lane in among)

    def _share_out(
        self, ready: list[_Lane], passed: list[_Lane], busy: int, now: float
    ) -> list[Pull]:
        if not any(lane.backlog for lane in ready):
            return []
        free = min(
            self._slots - busy - self._batched,
            self._slots + len(self._lanes) - 1 - busy - self.outstanding,
        )
        more = {lane.name: lane.backlog - lane.batched for lane in ready}
        shares: Counter[str] = Counter()
        while free > 0:
            candidates = [lane for lane in ready if more[lane.name] > 0]
            if not candidates:
                break
            # Who was passed over is made up for it, until it is its turn again.
            owed = max(lane.turn + lane.weight for lane in candidates)
            among = [*candidates, *(each for each in passed if each.turn + each.weight < owed)]
            for lane in among:
                lane.turn += lane.weight
            chosen = max(candidates, key=lambda lane: lane.turn)
            chosen.turn -= sum(lane.weight for lane in among)
            more[chosen.name] -= 1
            shares[chosen.name] += 1
            free -= 1
        return [self._ask(self._lanes[name], n, now, standing=False) for name, n in shares.items()]

    def _ask(
        self, lane: _Lane, batch: int, now: float, *, standing: bool, look: bool = False
    ) -> Pull:
        self._number += 1
        expires = (STANDING_SECONDS if lane.sure else UNSURE_SECONDS) if standing else 0.0
        lost_at = now + (expires + GRACE_SECONDS if standing else BATCH_SECONDS)
        self._asked[self._number] = _OpenPull(lane, batch, lost_at, standing, look)
        self._look_at = min(self._look_at, lost_at)
        lane.pulls += 1
        self.outstanding += batch
        if not standing:
            lane.batched += batch
            self._batched += batch
        return Pull(self._number, lane.name, batch, expires)

    def _forget(self, number: int) -> None:
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        asked.lane.pulls -= 1
        self.outstanding -= asked.left
        if not asked.standing:
            asked.lane.batched -= asked.left
            self._batched -= asked.left
