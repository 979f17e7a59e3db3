"""The fewest GPU-hours at a given 95th percentile of waiting, for one who knows the future.

The oracle knows each request and its length, gets workers ready to the second (Slurm's wait costs
it nothing, as it submits ahead), has no walltimes, and pays each worker's load time. It may let any
5 % of the requests wait for ever as long as their work is done in the end. Two steps make this
computable, and both can only lower its bill but for rounding, so what it pays is a lower bound on
what any scaler pays, or very near one:

- Work is a fluid in bins of some seconds. A request asks for one slot from its arrival for as long
  as it takes; what all ask for by t is C(t). Workers have served S(t) <= C(t) of it. If no request
  waits longer than w then C(t - w) <= S(t), so the backlog C - S is at most C(t) - C(t - w).
  Requests that came at t - w count as late where it is more. (Near, not exact: after a time in
  which requests were late, those still under way may make the next ones look late.)
- The share of late requests is kept by a price for each (a Lagrange multiplier), with which least
  cost is found by dynamic programming over bins, workers and backlog. For every price, the least
  cost less the price of the allowed late requests is a lower bound (weak duality); the best of
  several prices is taken. Between backlogs of the grid, costs are interpolated.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadtests.day.arrivals import Load

QUEUES: Final = 40
LATE: Final = 0.05
ROUNDS: Final = 8
TOLERANCE: Final = 0.5
"""Slot seconds of backlog that count as none."""

Array = NDArray[np.float64]


class Bound(NamedTuple):
    """What the oracle pays in GPU seconds, by the dual and by a plan that is nearly as good."""

    least: float
    planned: float


class Oracle:
    """Of one load from `begin` to `end`, in bins of `step` seconds; `start` is the load time."""

    def __init__(
        self,
        load: Load,
        *,
        begin: float,
        end: float,
        step: float,
        slots: int,
        start: float,
        most: int,
    ) -> None:
        self._slots, self._start, self._step, self._most = slots, start, step, most
        self._came = np.array(load.times)
        self._left = np.sort(self._came + np.array(load.service))
        self._came_sums = np.concatenate([[0.0], np.cumsum(self._came)])
        self._left_sums = np.concatenate([[0.0], np.cumsum(self._left)])
        self._edges = np.arange(begin, end + step / 2, step)
        self._inflow = np.diff(self._asked(self._edges))
        self._requests = int(np.diff(np.searchsorted(self._came, [begin, end]))[0])

    def bound(self, wait: float) -> Bound:
        """The least GPU seconds with at most 5 % of the requests waiting longer than `wait`."""
        least, planned = 0.0, float("inf")
        low, high, price = 0.0, float("inf"), 30.0
        for _ in range(ROUNDS):
            cost, paid, late = self._solve(wait, price)
            least = max(least, cost - price * LATE * self._requests)
            if late <= LATE * self._requests:
                planned, high = min(planned, paid), price
                price = (low * high) ** 0.5 if low else price / 8
            else:
                low = price
                price = (low * high) ** 0.5 if high < float("inf") else price * 8
        return Bound(least, planned)

    def _asked(self, times: Array) -> Array:
        """C(t): slot seconds that requests have asked for by each of `times`."""
        came, left = np.searchsorted(self._came, times), np.searchsorted(self._left, times)
        served: Array = (
            came * times - self._came_sums[came] - (left * times - self._left_sums[left])
        )
        return served

    def _solve(self, wait: float, price: float) -> tuple[float, float, float]:
        """Least cost at `price` per late request; GPU seconds and late requests of that plan."""
        ends = self._edges[1:]
        allowed = self._asked(ends) - self._asked(ends - wait) + TOLERANCE
        counts = np.diff(np.searchsorted(self._came, self._edges - wait)) * price
        top = max(self._inflow.max() * 4, self._slots * self._step * 4, allowed.max() * 1.5)
        grid = _Grid(max(top, self._inflow.sum() * LATE))
        workers = np.arange(self._most + 1)
        serves = workers[:, None] * self._slots * self._step
        runs = workers[:, None] * self._step
        starts = self._start * np.maximum(workers[None, :] - workers[:, None], 0)[:, :, None]
        value = np.tile(grid.values / self._slots, (len(workers), 1))
        choices = np.zeros((len(ends), len(workers), QUEUES), dtype=np.int8)
        for at in range(len(ends) - 1, -1, -1):
            after = np.clip(grid.values[None, :] + self._inflow[at] - serves, 0.0, grid.top)
            low, part = grid.place(after)
            then = value[workers[:, None], low] * (1 - part)
            then += value[workers[:, None], low + 1] * part
            then += runs + np.where(after > allowed[at], counts[at], 0.0)
            total = starts + then[None, :, :]
            choices[at] = total.argmin(axis=1)
            value = total.min(axis=1)
        paid, late = self._follow(choices, allowed, counts, grid)
        return float(value[0, 0]), paid, late / price

    def _follow(
        self, choices: NDArray[np.int8], allowed: Array, counts: Array, grid: "_Grid"
    ) -> tuple[float, float]:
        workers, backlog, paid, late = 0, 0.0, 0.0, 0.0
        for at, inflow in enumerate(self._inflow):
            low, part = grid.place(np.array(backlog))
            chosen = int(choices[at, workers, int(low) + round(float(part))])
            paid += max(chosen - workers, 0) * self._start + chosen * self._step
            workers = chosen
            backlog = max(0.0, backlog + float(inflow) - workers * self._slots * self._step)
            backlog = min(backlog, grid.top)
            late += float(counts[at]) if backlog > allowed[at] else 0.0
        return paid + backlog / self._slots, late


class _Grid:
    """Backlogs in slot seconds: 0, then geometric from 1."""

    def __init__(self, top: float) -> None:
        self.top = top
        self.values = np.concatenate([[0.0], np.geomspace(1.0, top, QUEUES - 1)])
        self._scale = (QUEUES - 2) / np.log(top)

    def place(self, backlog: Array) -> tuple[NDArray[np.int64], Array]:
        """The place below each backlog, and how far it is to the next."""
        place = np.where(
            backlog < 1.0, backlog, 1.0 + np.log(np.maximum(backlog, 1.0)) * self._scale
        )
        low = np.minimum(place.astype(np.int64), QUEUES - 2)
        return low, place - low
