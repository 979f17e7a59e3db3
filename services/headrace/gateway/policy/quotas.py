"""Which limits count for a request, and what counts against each. Pure functions of plain values.

A limit of a key or a user always counts. Of limits that groups give to each of their members, for
the same thing, the most generous counts: who is in two groups has the better of both. Those of the
group that all are in count only where no other group of the user says anything. A limit that a
group has together is charged by the requests that are accounted to the group.
"""

from collections.abc import Iterable, Mapping

import msgspec

from headrace.gateway.policy.access import AccessTarget
from headrace.gateway.policy.records import EVERYONE, Limit, LimitWindow, Metric, SubjectKind


class LimitSubject(msgspec.Struct, frozen=True):
    """Whose request it is, as far as limits go."""

    key: str
    owner: str
    """A user's pseudonym: it becomes part of counters' names."""
    user: str
    groups: tuple[str, ...] = ()
    """Those whose limits for each member count, `EVERYONE` included where it does."""


class Quota(msgspec.Struct, frozen=True):
    """One limit as it is for one request: the counter's name, and how high it may go."""

    counter: str
    metric: Metric
    window: LimitWindow
    value: int


class QuotaSet(msgspec.Struct, frozen=True):
    """All that counts against a request, and what of it is counted at which moment."""

    quotas: tuple[Quota, ...] = ()
    requests: tuple[Quota, ...] = ()
    tokens: tuple[Quota, ...] = ()
    concurrency: tuple[Quota, ...] = ()
    queued: tuple[Quota, ...] = ()


def counted(quotas: Iterable[Quota]) -> QuotaSet:
    """What counts against a request, sorted once for all requests of its kind."""
    every = tuple(quotas)
    sorts = (Metric.REQUESTS, Metric.TOKENS, Metric.CONCURRENCY, Metric.QUEUED)
    return QuotaSet(every, *(tuple(q for q in every if q.metric is metric) for metric in sorts))


class LimitBook(msgspec.Struct, frozen=True):
    """All limits, by what they are set on."""

    limits: Mapping[tuple[SubjectKind, str], tuple[Limit, ...]] = {}

    def of(self, kind: SubjectKind, name: str) -> tuple[Limit, ...]:
        """The limits that are set on this."""
        return self.limits.get((kind, name), ())


def book(limits: Iterable[Limit]) -> LimitBook:
    """Limits, found quickly."""
    found: dict[tuple[SubjectKind, str], list[Limit]] = {}
    for limit in limits:
        found.setdefault((limit.kind, limit.name), []).append(limit)
    return LimitBook({on: tuple(each) for on, each in found.items()})


def quotas(
    book: LimitBook, who: LimitSubject, accounted: str, model: AccessTarget
) -> tuple[Quota, ...]:
    """Every limit that counts for a request of `who` for `model`, accounted to a group."""
    if not book.limits and not model.limits:
        return ()
    found = [
        *_plain(book.of(SubjectKind.KEY, who.key), f"key:{who.key}", model),
        *_plain(book.of(SubjectKind.USER, who.user), f"user:{who.owner}", model),
        *_members(book, who, model),
        *_together(book, accounted, model),
    ]
    of_model = [
        limit for name in {model.name, model.slug} for limit in book.of(SubjectKind.MODEL, name)
    ]
    for limit in (*model.limits, *of_model):
        whose = f"each:{who.owner}" if limit.each else "all"
        found.append(_quota(limit, f"{whose}:model:{model.slug}"))
    return tuple(_lowest(found) if model.limits else found)


def _lowest(quotas: Iterable[Quota]) -> list[Quota]:
    """Of several on one counter, such as a model's own and an operator's, the lowest."""
    lowest: dict[str, Quota] = {}
    for quota in quotas:
        known = lowest.get(quota.counter)
        if known is None or quota.value < known.value:
            lowest[quota.counter] = quota
    return list(lowest.values())


def _plain(limits: Iterable[Limit], whose: str, model: AccessTarget) -> list[Quota]:
    return [_quota(limit, _narrow(whose, limit)) for limit in limits if _meant(limit, model)]


def _members(book: LimitBook, who: LimitSubject, model: AccessTarget) -> list[Quota]:
    best: dict[tuple[Metric, LimitWindow, str], Limit] = {}
    for name in sorted(who.groups, key=lambda name: name == EVERYONE):
        theirs: dict[tuple[Metric, LimitWindow, str], Limit] = {}
        for limit in book.of(SubjectKind.GROUP, name):
            if limit.each and _meant(limit, model):
                theirs[limit.metric, limit.window, limit.model] = limit
        for what, limit in theirs.items():
            known = best.get(what)
            if known is None or (name != EVERYONE and limit.value > known.value):
                best[what] = limit
    return [_quota(limit, _narrow(f"member:{who.owner}", limit)) for limit in best.values()]


def _together(book: LimitBook, group: str, model: AccessTarget) -> list[Quota]:
    limits = [limit for limit in book.of(SubjectKind.GROUP, group) if not limit.each]
    return _plain(limits, f"group:{group}", model)


def _meant(limit: Limit, model: AccessTarget) -> bool:
    return not limit.model or limit.model in (model.name, model.slug)


def _narrow(whose: str, limit: Limit) -> str:
    return f"{whose}:of:{limit.model}" if limit.model else whose


def _quota(limit: Limit, whose: str) -> Quota:
    counter = f"{whose}:{limit.metric}:{limit.window}"
    return Quota(counter, limit.metric, limit.window, limit.value)
