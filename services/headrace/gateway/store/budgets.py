"""Money in the store: reserved before it is spent, by all edge processes out of the same counters.

Each reservation is one transaction that looks at every budget and takes from all of them or none.
What is reserved counts as spent until it is settled, so that nothing can go beyond a budget: not
several processes at once, and not one that dies. Blocks; for threads.
"""

from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection

from headrace.external.model import USER_SHARE, ExternalModel
from headrace.external.money import micro
from headrace.gateway.policy.access import AccessTarget
from headrace.gateway.policy.records import Limit, LimitWindow, Metric, SubjectKind
from headrace.gateway.store import counters
from headrace.gateway.store.counters import Name


class BudgetOutcome(msgspec.Struct, frozen=True):
    """What came of a reservation."""

    short: tuple[Name, ...]
    """The budgets in which too little is left; then nothing was taken."""
    values: Mapping[Name, int]
    """What was spent of each before it."""


def reserve(
    connection: Connection, budgets: Mapping[Name, tuple[float, int]], amount: int
) -> BudgetOutcome:
    """Take `amount` from each of `budgets` (its window's end, and how high it may go), or nothing.

    The first statement takes the locks: whoever comes meanwhile waits until this is committed.
    """
    values = counters.add(connection, {name: (ends, 0) for name, (ends, _) in budgets.items()})
    short = tuple(name for name, (_, limit) in budgets.items() if values[name] + amount > limit)
    if not short:
        counters.add_all(connection, {name: (ends, amount) for name, (ends, _) in budgets.items()})
    return BudgetOutcome(short, values)


def limits_of(file: ExternalModel) -> tuple[Limit, ...]:
    """What a model's own file bounds: money, and the pace of each user."""
    budget, slug = file.budget, str(file.queue)
    found = []
    for window, every, own in (
        (LimitWindow.DAY, budget.per_day, budget.user_per_day),
        (LimitWindow.MONTH, budget.per_month, budget.user_per_month),
    ):
        if every is not None:
            found.append(_of(slug, Metric.COST, window, micro(every), each=False))
        share = own if own is not None else every and every / USER_SHARE
        if share is not None:
            found.append(_of(slug, Metric.COST, window, micro(share), each=True))
    paces = (
        (Metric.REQUESTS, LimitWindow.MINUTE, file.limits.user_requests_per_minute),
        (Metric.CONCURRENCY, LimitWindow.NOW, file.limits.user_concurrency),
    )
    found += [_of(slug, metric, window, value, each=True) for metric, window, value in paces]
    return tuple(found)


def access_of(file: ExternalModel) -> AccessTarget:
    """What counts of it for who may use it, and how much."""
    return AccessTarget(file.name, str(file.queue), external=True, limits=limits_of(file))


def _of(slug: str, metric: Metric, window: LimitWindow, value: int, *, each: bool) -> Limit:
    return Limit(
        kind=SubjectKind.MODEL, name=slug, metric=metric, window=window, value=value, each=each
    )
