"""How many workers a rate of requests asks for, when waiting and GPU-hours are weighed.

The cost of `n` workers, in workers (GPU-hours per hour), is

    n + Lq(n) / patience

where Lq is the mean number of waiting requests; by Little's law, waiting per hour. The best n
carries the load plus a margin that grows with its square root, as in square-root staffing (Borst,
Mandelbaum and Reiman, "Dimensioning large call centers", Operations Research 52, 2004, who weigh
the same two costs); the patience takes the place of their quality-of-service parameter.
"""

import math
from functools import lru_cache
from typing import Final, NamedTuple

FULL: Final = 0.98
"""Beyond this utilisation a queue is reckoned by its growth: it would never get to steady state."""


class Correction(NamedTuple):
    """The mean number waiting is `factor` times the formula, and `longer` for each slot of load."""

    factor: float = 1.0
    longer: float = 0.0
    """What a request waits beyond the formula, in service times."""


RIGHT: Final = Correction()


def waiting(servers: float, load: float, peakedness: float) -> float:
    """Mean number waiting at `servers` slots under `load` slots' worth of requests.

    Sakasegawa's approximation of Erlang's C formula (Annals of the Institute of Statistical
    Mathematics 29, 1977). Bursts count by Hayward's rule: arrivals with `peakedness` z, the
    variance over the mean of the slots that they would take if there were endless ones, are like
    Poisson arrivals of z requests each (Whitt, "Understanding the efficiency of multi-server
    service systems", Management Science 38, 1992).
    """
    use = min(load / servers, FULL)
    exponent = math.sqrt(2 * (servers / peakedness + 1))
    return peakedness * float(use**exponent) / (1 - use)


@lru_cache(maxsize=4096)
def workers(
    loads: tuple[float, ...],
    *,
    slots: int,
    most: int,
    peakedness: float,
    patience: float,
    turnovers: float,
    corrections: tuple[Correction, ...] = (),
) -> int:
    """The best number of workers, at least 1, against equally likely `loads` (in slots).

    Above capacity the queue grows for as long as it takes to get another worker: `turnovers` is
    that time in service times, and the mean excess over it is half of what there is at its end.
    `corrections` says by count (from 1) how far off the formula is.
    """
    best, least = 1, math.inf
    for count in range(1, max(most, 1) + 1):
        servers = count * slots
        factor, longer = corrections[count - 1] if count <= len(corrections) else RIGHT
        queue = math.fsum(
            factor * waiting(servers, load, peakedness)
            + longer * load
            + max(0.0, load - servers * FULL) * turnovers / 2
            for load in loads
        )
        cost = count + queue / len(loads) / patience
        if cost < least:
            best, least = count, cost
    return best


def catch_up(
    backlog: float,
    *,
    rate: float,
    per_worker: float,
    ready_in: list[float],
    more_in: float,
    load: float,
    most: int,
    patience: float,
) -> int:
    """The best number of workers against a `backlog` of requests that is there now.

    Workers come one after the other: `ready_in` gives the seconds until each of those that exist
    is ready (0: it is), and any more would take `more_in`. Each serves `per_worker` requests a
    second, `rate` more come. A fluid model gives the backlog's area (requests times seconds) and
    its end; each worker that isn't ready costs what is left of its load time, and stands idle for
    as long again at the end. A worker that would be ready after the backlog is gone only costs.
    """
    best, least = 0, math.inf
    for count in range(1, max(most, 1) + 1):
        times = sorted((sorted(ready_in) + [more_in] * count)[:count])
        cost = _area(backlog, rate, per_worker, times, horizon=4 * more_in + 3600) / patience
        cost += math.fsum(2 * min(left, load) for left in times if left > 0)
        if cost < least * (1 - 1e-9):
            best, least = count, cost
    return best


def _area(
    backlog: float, rate: float, per_worker: float, ready_in: list[float], horizon: float
) -> float:
    area, at = 0.0, 0.0
    for serving, until in enumerate([*ready_in, horizon]):
        growth = rate - serving * per_worker
        span = max(0.0, until - at)
        if growth < 0 and backlog + growth * span <= 0:
            return area + backlog * (backlog / -growth) / 2
        area += (backlog + growth * span / 2) * span
        backlog += growth * span
        at = max(at, until)
    return area
