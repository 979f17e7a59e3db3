"""What is known of each request afterwards, and what that comes to."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """One request. Times are in seconds, NaN for what never came and for `late` in a closed loop.

    `outcome` is ``ok``, or ``no connection``, ``cut``, ``timeout``, ``status 503``, ``wrong text``
    and the like.
    """

    outcome: str
    started: float
    first_token: float
    total: float
    late: float
    gaps: list[float]


class Spread(msgspec.Struct, frozen=True):
    """A distribution, in the unit of its values; NaN is written as null where there were none."""

    p50: float
    p90: float
    p99: float
    max: float
    mean: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A load's result. Times are in milliseconds, rates per second of `seconds`.

    Requests that the generator gave up on (``timeout``) count with the tokens that they had got;
    only requests that were answered whole count in `requests_per_second` and `total_ms`.

    `late_ms` is how late requests began after their moments, and `generator_cpu_seconds` what the
    generator itself took: when either is large, the generator was the bottleneck.
    """

    requests: int
    outcomes: dict[str, int]
    seconds: float
    requests_per_second: float
    tokens_per_second: float
    first_token_ms: Spread
    gap_ms: Spread
    total_ms: Spread
    late_ms: Spread
    generator_cpu_seconds: float


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The percentile of ascending values, linear between ranks; NaN of nothing."""
    if not ordered:
        return math.nan
    rank = (len(ordered) - 1) * percent / 100
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def spread(values: Iterable[float], scale: float = 1.0) -> Spread:
    """The distribution of the values that are numbers, each times `scale`."""
    known = sorted(value * scale for value in values if not math.isnan(value))
    mean = math.fsum(known) / len(known) if known else math.nan
    p50, p90, p99, most = (percentile(known, each) for each in (50, 90, 99, 100))
    return Spread(p50=p50, p90=p90, p99=p99, max=most, mean=mean)


def summary(samples: Sequence[Sample], cpu_seconds: float) -> Summary:
    """What samples come to. What ended with an error counts in `outcomes` alone."""
    well = [sample for sample in samples if sample.outcome == "ok"]
    told = [sample for sample in samples if sample.outcome in {"ok", "timeout"}]
    begun = min((sample.started for sample in samples), default=0.0)
    ended = max((sample.started + sample.total for sample in samples), default=0.0)
    seconds = ended - begun
    tokens = sum(len(sample.gaps) + 1 for sample in told if not math.isnan(sample.first_token))
    return Summary(
        requests=len(samples),
        outcomes=dict(Counter(sample.outcome for sample in samples).most_common()),
        seconds=seconds,
        requests_per_second=len(well) / seconds if seconds else 0.0,
        tokens_per_second=tokens / seconds if seconds else 0.0,
        first_token_ms=spread((sample.first_token for sample in told), 1e3),
        gap_ms=spread((gap for sample in told for gap in sample.gaps), 1e3),
        total_ms=spread((sample.total for sample in well), 1e3),
        late_ms=spread((sample.late for sample in samples), 1e3),
        generator_cpu_seconds=cpu_seconds,
    )
