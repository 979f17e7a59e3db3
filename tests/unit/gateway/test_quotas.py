"""Which limits count for a request, and when their windows begin and end."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateway import durations
from headrace.gateway.policy import quotas, windows
from headrace.gateway.policy.access import AccessTarget
from headrace.gateway.policy.quotas import LimitSubject
from headrace.gateway.policy.records import EVERYONE, Limit, LimitWindow, Metric, SubjectKind

MODEL = AccessTarget("Big/Model", "big-model")
OTHER = AccessTarget("small", "small")
ADA = LimitSubject("k1", "pseudo", "ada", ("a", "b", EVERYONE))


def limit(
    kind: SubjectKind,
    name: str,
    value: int,
    *,
    model: str = "",
    each: bool = True,
    metric: Metric = Metric.REQUESTS,
) -> Limit:
    return Limit(
        kind=kind,
        name=name,
        metric=metric,
        window=LimitWindow.MINUTE,
        value=value,
        model=model,
        each=each,
    )


def values(
    *limits: Limit, group: str = "a", model: AccessTarget = MODEL, who: LimitSubject = ADA
) -> dict[str, int]:
    found = quotas.quotas(quotas.book(limits), who, group, model)
    return {quota.counter: quota.value for quota in found}


def test_limits_of_key_user_and_model_all_count() -> None:
    assert values(
        limit(SubjectKind.KEY, "k1", 1),
        limit(SubjectKind.KEY, "k2", 2),
        limit(SubjectKind.USER, "ada", 3),
        limit(SubjectKind.USER, "bob", 4),
        limit(SubjectKind.MODEL, "Big/Model", 5, each=False),
        limit(SubjectKind.MODEL, "big-model", 6, metric=Metric.TOKENS),
        limit(SubjectKind.MODEL, "small", 7),
    ) == {
        "key:k1:requests:minute": 1,
        "user:pseudo:requests:minute": 3,
        "all:model:big-model:requests:minute": 5,
        "each:pseudo:model:big-model:tokens:minute": 6,
    }


def test_the_most_generous_of_ones_groups_counts_and_everyones_only_alone() -> None:
    a, b, all_ = (
        limit(SubjectKind.GROUP, name, n) for name, n in (("a", 5), ("b", 9), (EVERYONE, 50))
    )
    member = "member:pseudo:requests:minute"
    assert values(a, b, all_) == {member: 9}
    assert values(a, all_) == {member: 5}
    assert values(all_) == {member: 50}
    tokens = limit(SubjectKind.GROUP, EVERYONE, 7, metric=Metric.TOKENS)
    assert values(a, tokens) == {member: 5, "member:pseudo:tokens:minute": 7}


def test_what_a_group_has_together_counts_where_it_is_accounted() -> None:
    together = limit(SubjectKind.GROUP, "b", 5, each=False)
    assert values(together, group="b") == {"group:b:requests:minute": 5}
    assert values(together, group="a") == {}


def test_a_limit_may_be_of_one_model() -> None:
    one = limit(SubjectKind.USER, "ada", 2, model="big-model")
    assert values(one) == {"user:pseudo:of:big-model:requests:minute": 2}
    assert values(one, model=OTHER) == {}


def test_two_people_never_share_a_counter_that_is_for_each() -> None:
    limits = [
        limit(SubjectKind.GROUP, "a", 1),
        limit(SubjectKind.MODEL, "small", 1),
        limit(SubjectKind.USER, "ada", 1),
    ]
    bob = LimitSubject("k2", "other", "bob", ("a",))
    assert not values(*limits, model=OTHER).keys() & values(*limits, model=OTHER, who=bob).keys()


@pytest.mark.parametrize(
    ("metric", "window"),
    [(Metric.CONCURRENCY, LimitWindow.DAY), (Metric.TOKENS, LimitWindow.NOW)],
)
def test_a_metric_has_its_windows(metric: Metric, window: LimitWindow) -> None:
    with pytest.raises(ValueError, match="not counted per"):
        Limit(kind=SubjectKind.USER, name="ada", metric=metric, window=window, value=1)


@given(
    st.sampled_from([LimitWindow.MINUTE, LimitWindow.HOUR, LimitWindow.DAY, LimitWindow.MONTH]),
    st.floats(0, 4e9),
)
def test_windows_follow_each_other_without_a_gap(window: LimitWindow, now: float) -> None:
    begin, end = windows.begin(window, now), windows.end(window, now)
    assert begin <= now < end
    assert windows.begin(window, end) == end
    assert windows.end(window, begin) == end


def test_a_month_is_the_calendars() -> None:
    at = datetime.datetime(2028, 2, 29, 12, tzinfo=datetime.UTC).timestamp()
    assert windows.begin(LimitWindow.MONTH, at) == 1832976000  # 2028-02-01
    assert windows.end(LimitWindow.MONTH, at) == 1835481600  # 2028-03-01


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("12H", 43200), ("30d", 2592000), ("5", 5)]
)
def test_spans(text: str, seconds: int) -> None:
    assert durations.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0d", "-1d", "1.5h", "1dd", "²d", "9999999999d", "101y"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="span"):
        durations.seconds(text)
