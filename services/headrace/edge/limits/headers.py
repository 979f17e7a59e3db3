"""What a client is told of its limits, in the headers and errors that OpenAI's clients read."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from headrace.edge.limits.counters import QuotaStatus
from headrace.gateway.policy import windows
from headrace.gateway.policy.quotas import Quota
from headrace.gateway.policy.records import MOMENTARY, LimitWindow, Metric
from headrace.protocol.endpoints import Headers
from headrace.protocol.errors import Code, HeadraceError

MOST: Final = 120
"""OpenAI's clients don't heed a longer ``Retry-After``."""

MOMENT: Final = 2
"""Seconds after which to come again where it is not known when something ends."""

_BUDGETS: Final = frozenset({LimitWindow.DAY, LimitWindow.MONTH})
"""Used up, these are no matter of waiting a little: OpenAI calls that ``insufficient_quota``."""


def standings(quotas: Sequence[Quota], used: Sequence[int], now: float) -> list[QuotaStatus]:
    """Quotas with what was used of each."""
    return [
        QuotaStatus(quota, quota.value - count, windows.end(quota.window, now))
        for quota, count in zip(quotas, used, strict=True)
    ]


def check(standings: Sequence[QuotaStatus], now: float) -> None:
    """Raise HeadraceError where a quota is used up: the one that will be so for longest."""
    over = [standing for standing in standings if standing.left <= 0]
    if not over:
        return
    worst = max(
        over, key=lambda standing: (standing.quota.window in _BUDGETS, _wait(standing, now))
    )
    raise refusal(worst, now, headers(*told(standings), now, used=0))


def refusal(standing: QuotaStatus, now: float, told: Headers) -> HeadraceError:
    """The error of one quota that is used up."""
    quota = standing.quota
    wait = _wait(standing, now)
    if quota.window in _BUDGETS:
        error = HeadraceError(
            Code.INSUFFICIENT_QUOTA,
            f"You have used up your quota of {quota.value} {quota.metric} per {quota.window}. "
            f"It begins anew in {span(wait)}.",
            retryable=False,
            retry_after=math.ceil(wait),
        )
    else:
        what = {
            Metric.CONCURRENCY: f"{quota.value} requests at once",
            Metric.QUEUED: f"{quota.value} requests that wait",
        }.get(quota.metric, f"{quota.value} {quota.metric} per {quota.window}")
        error = HeadraceError(
            Code.RATE_LIMIT_EXCEEDED,
            f"Rate limit reached: {what}. Please try again in {span(wait)}.",
            # A client that comes again after what it takes for the time would be refused again.
            retryable=wait <= MOST,
            retry_after=math.ceil(wait),
        )
    error.headers = told
    return error


def told(standings: Sequence[QuotaStatus]) -> tuple[QuotaStatus | None, QuotaStatus | None]:
    """Those that a client is told of: of requests and of tokens the one with the least left."""

    def least(metric: Metric) -> QuotaStatus | None:
        found = [each for each in standings if each.quota.metric is metric]
        return min(found, key=lambda each: (each.left, -each.ends), default=None)

    return least(Metric.REQUESTS), least(Metric.TOKENS)


def headers(
    requests: QuotaStatus | None, tokens: QuotaStatus | None, now: float, used: int = 1
) -> Headers:
    """``x-ratelimit-*`` for requests and tokens; `used` is what the request itself takes."""
    said: Headers = []
    if requests is not None:
        said += (
            (b"x-ratelimit-limit-requests", b"%d" % requests.quota.value),
            (b"x-ratelimit-remaining-requests", b"%d" % max(0, requests.left - used)),
            (b"x-ratelimit-reset-requests", _span(math.ceil(requests.ends - now))),
        )
    if tokens is not None:
        said += (
            (b"x-ratelimit-limit-tokens", b"%d" % tokens.quota.value),
            (b"x-ratelimit-remaining-tokens", b"%d" % max(0, tokens.left)),
            (b"x-ratelimit-reset-tokens", _span(math.ceil(tokens.ends - now))),
        )
    return said


@lru_cache(64)
def _span(seconds: int) -> bytes:
    # The same for all requests of a second.
    return span(seconds).encode()


def span(seconds: float) -> str:
    """A span as OpenAI writes it in these headers: ``1s``, ``6m0s``, ``26h3m20s``."""
    whole = max(0, math.ceil(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    text = f"{rest}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _wait(standing: QuotaStatus, now: float) -> float:
    if standing.quota.metric in MOMENTARY:
        return MOMENT
    return max(1.0, standing.ends - now)
