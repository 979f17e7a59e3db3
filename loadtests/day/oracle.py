"""The fewest GPU-hours at a given 95th percentile of waiting, for one who knows the future.

The oracle knows each request and its length, and how long Slurm will let a job wait: it submits so
far ahead that workers are ready to the second. It has as many workers at most as everyone else,
pays each one's load time, and knows no walltimes. It may let any 5 % of the requests wait for ever
as long as their work is done in the end. Two steps make this
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
  many prices is taken. Between backlogs of the grid, costs are interpolated.

With `hold` seconds the same is a bound for a *planner*: who also knows all, but changes the number
of workers only every so often, and so cannot start one for each burst.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.day.arrivals import Load

QUEUES: Final = 40
LATE: Final = 0.05
PRICES: Final = 8
"""Tried at once, twice: over the whole range, then around the best."""
CHEAPEST, DEAREST = 0.01, 1e5
"""GPU seconds for a late request."""
TOLERANCE: Final = 0.5
"""Slot seconds of backlog that count as none."""
AROUND: Final = 1
"""Bins before and after those in which something happens; beyond, idle ones are one long bin."""

Array = NDArray[np.float64]


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
        self._slots, self._start, self._most = slots, start, most
        self._came = np.array(load.times)
        self._left = np.sort(self._came + np.array(load.service))
        self._came_sums = np.concatenate([[0.0], np.cumsum(self._came)])
        self._left_sums = np.concatenate([[0.0], np.cumsum(self._left)])
        self._grid = np.arange(begin, end + step / 2, step)
        self._requests = int(np.diff(np.searchsorted(self._came, [begin, end]))[0])

    def least(self, waits: Sequence[float], hold: float = 0.0) -> list[float]:
        """The least GPU seconds with at most 5 % of the requests waiting longer, for each wait."""
        prices = np.tile(np.geomspace(CHEAPEST, DEAREST, PRICES), (len(waits), 1))
        bounds = self._bounds(waits, prices, hold)
        best = bounds.argmax(axis=1)
        around = [
            np.geomspace(each[max(at - 1, 0)], each[min(at + 1, PRICES - 1)], PRICES)
            for each, at in zip(prices, best, strict=True)
        ]
        closer = self._bounds(waits, np.array(around), hold)
        return [float(each) for each in np.maximum(bounds, closer).max(axis=1)]

    def _late(self, edges: Array, wait: float) -> NDArray[np.int64]:
        """How many requests are late, bin by bin, if they are not served by then."""
        return np.diff(np.searchsorted(self._came, edges - wait))

    def _edges(self, waits: Sequence[float]) -> Array:
        """Of the bins: where nothing comes and nothing falls due, many are one."""
        busy = np.diff(self._asked(self._grid)) > 0
        for wait in waits:
            busy |= self._late(self._grid, wait) > 0
        near = np.convolve(busy, np.ones(2 * AROUND + 1), "same") > 0
        kept = np.concatenate([[True], near[1:] | near[:-1], [True]])
        edges: Array = self._grid[kept]
        return edges

    def _asked(self, times: Array) -> Array:
        """C(t): slot seconds that requests have asked for by each of `times`."""
        came, left = np.searchsorted(self._came, times), np.searchsorted(self._left, times)
        asked: Array = came * times - self._came_sums[came] - (left * times - self._left_sums[left])
        return asked

    def _bounds(self, waits: Sequence[float], prices: Array, hold: float) -> Array:
        """Lower bounds by wait and price. Axes are workers, backlogs, waits, prices."""
        edges = self._edges(waits)
        ends, steps, inflow = edges[1:], np.diff(edges), np.diff(self._asked(edges))
        allowed = np.array([self._asked(ends) - self._asked(ends - wait) for wait in waits])
        allowed += TOLERANCE
        late = np.array([self._late(edges, wait) for wait in waits])
        top = max(inflow.max() * 4, allowed.max() * 1.5, inflow.sum() * LATE)
        grid = np.concatenate([[0.0], np.geomspace(1.0, top, QUEUES - 1)])
        scale = (QUEUES - 2) / np.log(top)
        workers = np.arange(self._most + 1)[:, None]
        counts = workers[:, :, None, None]
        starts = counts * self._start
        value = np.empty((self._most + 1, QUEUES, *prices.shape))
        value[:] = (grid / self._slots)[:, None, None]
        for at in range(len(ends) - 1, -1, -1):
            after = np.clip(grid + inflow[at] - workers * (self._slots * steps[at]), 0.0, top)
            place = np.where(after < 1.0, after, 1.0 + np.log(np.maximum(after, 1.0)) * scale)
            low = np.minimum(place.astype(np.int64), QUEUES - 2)
            left, right = value[workers, low], value[workers, low + 1]
            then = left + (right - left) * (place - low)[:, :, None, None] + counts * steps[at]
            for index in np.flatnonzero(late[:, at]):
                over = np.where(after > allowed[index, at], late[index, at], 0)
                then[:, :, index] += over[:, :, None] * prices[index]
            value = then
            if hold and edges[at] % hold:
                continue
            # From n workers on to fewer, for nothing, or to more, which have to start.
            fewer = np.minimum.accumulate(then)
            more = np.minimum.accumulate((then + starts)[::-1])[::-1] - starts
            value = np.minimum(fewer, more)
        bounds: Array = value[0, 0] - prices * LATE * self._requests
        return bounds
