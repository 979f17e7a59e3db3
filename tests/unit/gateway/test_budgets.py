"""Money: what a request can cost, what it has cost, and which budgets bound it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.external import model, money
from headrace.external.cost_bound import bound
from headrace.gateway.policy import quotas
from headrace.gateway.policy.quotas import LimitSubject
from headrace.gateway.policy.records import Limit, LimitWindow, Metric, SubjectKind
from headrace.gateway.store import budgets
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code, HeadraceError
from tests.support.gateway_edges import SOLD

FILE = model.read(SOLD)
ADA = LimitSubject(key="k1", owner="p-ada", user="ada")


def chat(**more: Any) -> bytes:
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": "hi"}]} | more
    ).encode()


def test_a_price_per_million_is_a_price_in_millionths() -> None:
    price = money.Price(prompt=2.5, completion=10.0)
    assert price.cost(1_000_000, 0) == 2_500_000
    assert price.cost(3, 7) == 78  # 77.5 is never rounded down
    assert money.Price(prompt=0.1, completion=0.2).cost(1, 1) == 1
    assert money.shown(12_500, "EUR") == "0.0125 EUR"


@given(st.text(max_size=200), st.integers(1, 10_000) | st.none())
def test_a_bound_is_never_below_what_can_come_of_it(text: str, wanted: int | None) -> None:
    more = {} if wanted is None else {"max_tokens": wanted}
    body = chat(messages=[{"role": "user", "content": text}], **more)
    got = bound(FILE, Endpoint.CHAT, body)
    sent = json.loads(got.body)
    assert sent["max_completion_tokens"] == min(wanted or 4096, 4096)
    assert "max_tokens" not in sent
    # The worst tokenizer makes a token of each byte.
    assert got.cost >= FILE.price.cost(len(text.encode()), sent["max_completion_tokens"])


@pytest.mark.parametrize("limit", [0, -1, 1.5, "9", [], True])
def test_a_limit_that_is_none_is_refused(limit: object) -> None:
    with pytest.raises(HeadraceError) as error:
        bound(FILE, Endpoint.CHAT, chat(max_tokens=limit))
    assert error.value.code is Code.UNPROCESSABLE


def test_what_is_said_twice_of_the_answers_length_holds_at_its_least() -> None:
    got = bound(FILE, Endpoint.CHAT, chat(max_tokens=9, max_completion_tokens=70))
    assert json.loads(got.body)["max_completion_tokens"] == 9


def test_an_embedding_has_no_answer_to_pay_for() -> None:
    got = bound(FILE, Endpoint.EMBEDDINGS, b'{"input": "x"}')
    assert got == (b'{"input": "x"}', FILE.price.cost(14 + 1024, 0))


def test_one_user_may_spend_a_tenth_where_nothing_is_said() -> None:
    found = {(q.counter, q.value) for q in quotas.quotas(
        quotas.LimitBook(), ADA, "", budgets.access_of(FILE))}  # fmt: skip
    assert found == {
        ("all:model:sold-model:cost:day", 100_000_000),
        ("each:p-ada:model:sold-model:cost:day", 10_000_000),
        ("each:p-ada:model:sold-model:requests:minute", 20),
        ("each:p-ada:model:sold-model:concurrency:now", 4),
    }


@pytest.mark.parametrize(("value", "holds"), [(1, 1), (50, 20)])
def test_an_operators_limit_may_be_lower_than_the_files_and_not_higher(
    value: int, holds: int
) -> None:
    own = Limit(
        kind=SubjectKind.MODEL, name="Sold-Model",
        metric=Metric.REQUESTS, window=LimitWindow.MINUTE,
        value=value, each=True,
    )  # fmt: skip
    found = quotas.quotas(quotas.book([own]), ADA, "", budgets.access_of(FILE))
    assert [q.value for q in found if q.metric is Metric.REQUESTS] == [holds]


def test_a_groups_money_is_bounded_too() -> None:
    limit = Limit(
        kind=SubjectKind.GROUP,
        name="chem",
        metric=Metric.COST,
        window=LimitWindow.MONTH,
        value=5,
        each=False,
    )
    found = quotas.quotas(quotas.book([limit]), ADA, "chem", budgets.access_of(FILE))
    assert "group:chem:cost:month" in {quota.counter for quota in found}


@pytest.mark.parametrize("body", [b"[]", b'{"\xff": 1}', b"", b"{"])
def test_what_is_no_object_has_no_bound(body: bytes) -> None:
    with pytest.raises(HeadraceError) as error:
        bound(FILE, Endpoint.CHAT, body)
    assert error.value.code is Code.INVALID_JSON
