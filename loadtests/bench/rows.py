"""What one contender under one load comes to."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median

import msgspec

from loadtests.bench.machine import Machine
from loadtests.bench.metered import Metered
from loadtests.load.samples import Sample, summary


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One contender under one load. Times in ms; `cpu_ms` is by process, for each request begun.

    `cpu_ms` and `rss_mib` have every process of the contender, the engine and the generator.
    """

    contender: str
    requests: int
    outcomes: dict[str, int]
    requests_per_second: float
    tokens_per_second: float
    first_token_p50: float
    first_token_p99: float
    gap_p50: float
    gap_p99: float
    cpu_ms: dict[str, float]
    rss_mib: dict[str, float]


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """All contenders under one load."""

    streams: int
    tokens: int
    delay_ms: float
    rounds: int
    rows: list[Row]


class SideBySide(msgspec.Struct, frozen=True, kw_only=True):
    """The result."""

    machine: Machine
    contenders: dict[str, str]
    missing: dict[str, str]
    levels: list[Level]


def alone(name: str, tokens: int, samples: Sequence[Sample]) -> Row:
    """Requests one after the other, with others' between them: the rate is that of their times."""
    found = summary(samples, 0.0)
    each = sum(sample.total for sample in samples) / len(samples)
    return Row(
        contender=name,
        requests=found.requests,
        outcomes=found.outcomes,
        requests_per_second=1 / each,
        tokens_per_second=tokens / each,
        first_token_p50=found.first_token_ms.p50,
        first_token_p99=found.first_token_ms.p99,
        gap_p50=found.gap_ms.p50,
        gap_p99=found.gap_ms.p99,
        cpu_ms={},
        rss_mib={},
    )


def row(name: str, runs: Sequence[Metered]) -> Row:
    """What rounds come to: medians, but for what is counted."""
    summaries = [run.summary for run in runs]
    requests = sum(each.requests for each in summaries)
    outcomes: Counter[str] = Counter()
    cpu: dict[str, float] = defaultdict(float)
    rss: dict[str, float] = {}
    for run in runs:
        outcomes.update(run.summary.outcomes)
        cpu["generator"] += run.summary.generator_cpu_seconds
        for part, cost in run.costs.items():
            cpu[part] += cost.cpu_seconds
            rss[part] = max(rss.get(part, 0.0), cost.rss_bytes / 2**20)
    return Row(
        contender=name,
        requests=requests,
        outcomes=dict(outcomes),
        requests_per_second=median(each.requests_per_second for each in summaries),
        tokens_per_second=median(each.tokens_per_second for each in summaries),
        first_token_p50=median(each.first_token_ms.p50 for each in summaries),
        first_token_p99=median(each.first_token_ms.p99 for each in summaries),
        gap_p50=median(each.gap_ms.p50 for each in summaries),
        gap_p99=median(each.gap_ms.p99 for each in summaries),
        cpu_ms={part: seconds * 1e3 / requests for part, seconds in cpu.items()},
        rss_mib=rss,
    )
