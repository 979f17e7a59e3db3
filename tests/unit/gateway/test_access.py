"""Who may ask which model for what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateway.policy.access import UNBOUND, AccessTarget, accounted, covers, may, rights
from headrace.gateway.policy.records import ALL, EVERYONE, Group, Key, User
from headrace.protocol.endpoints import Endpoint

OWN = AccessTarget("Qwen/Qwen3-8B", "qwen-qwen3-8b")
OTHER = AccessTarget("small", "small")
SOLD = AccessTarget("gpt-9", "gpt-9", external=True)


def group(name: str, *models: str, endpoints: tuple[Endpoint, ...] = ()) -> Group:
    return Group(name=name, models=models, endpoints=endpoints)


def key(*groups: str, models: tuple[str, ...] = (), endpoints: tuple[Endpoint, ...] = ()) -> Key:
    return Key(id="k1", digest="d", owner="ada", groups=groups, models=models, endpoints=endpoints)


def of(*groups: str) -> User:
    return User(name="ada", groups=groups)


def table(*groups: Group) -> dict[str, Group]:
    return {each.name: each for each in groups}


OPEN = group(EVERYONE, ALL)
SHUT = group(EVERYONE)


@pytest.mark.parametrize(
    ("pattern", "model", "is_covered"),
    [
        (ALL, OWN, True), (ALL, SOLD, False), ("gpt-9", SOLD, True), ("small", OWN, False),
        ("Qwen/Qwen3-8B", OWN, True), ("qwen-qwen3-8b", OWN, True), ("qwen", OWN, False),
    ],
)  # fmt: skip
def test_what_a_pattern_covers(pattern: str, model: AccessTarget, *, is_covered: bool) -> None:
    assert covers([pattern], model) is is_covered


def test_a_new_store_lets_everyone_use_the_sites_own_models_alone() -> None:
    anyone = rights(key(), of(), table(OPEN))
    assert may(anyone, OWN, Endpoint.CHAT)
    assert not may(anyone, SOLD)


def test_groups_add_up_and_those_one_is_not_in_do_not_count() -> None:
    groups = table(SHUT, group("a", "small"), group("b", "gpt-9"), group("c", ALL))
    both = rights(key(), of("a", "b"), groups)
    assert may(both, OTHER)
    assert may(both, SOLD)
    assert not may(both, OWN)
    assert not may(rights(key(), of(), groups), OTHER)


def test_a_key_is_narrowed_to_groups_that_its_owner_is_still_in() -> None:
    groups = table(SHUT, group("a", "small"), group("b", "gpt-9"))
    narrow = rights(key("a"), of("a", "b"), groups)
    assert may(narrow, OTHER)
    assert not may(narrow, SOLD)
    assert not may(rights(key("a"), of("b"), groups), OTHER), "its owner has left the group"
    assert not may(rights(key("gone"), of("gone"), groups), OTHER), "the group was removed"


def test_a_key_is_narrowed_to_models_and_endpoints() -> None:
    groups = table(OPEN)
    one = rights(key(models=("small",)), of(), groups)
    assert may(one, OTHER)
    assert not may(one, OWN)
    vectors = rights(key(endpoints=(Endpoint.EMBEDDINGS,)), of(), groups)
    assert may(vectors, OWN, Endpoint.EMBEDDINGS)
    assert not may(vectors, OWN, Endpoint.CHAT)


def test_a_group_may_be_for_some_endpoints() -> None:
    groups = table(SHUT, group("v", ALL, endpoints=(Endpoint.EMBEDDINGS,)))
    vectors = rights(key(), of("v"), groups)
    assert may(vectors, OWN, Endpoint.EMBEDDINGS)
    assert not may(vectors, OWN, Endpoint.CHAT)
    assert may(vectors, OWN), "it is listed"


def test_a_request_is_accounted_to_the_group_that_allows_it() -> None:
    groups = table(OPEN, group("a", ALL), group("b", "small"), group("c"))
    member = rights(key(), of("a", "b", "c"), groups)
    assert accounted(member, OTHER, Endpoint.CHAT) == "b"
    assert accounted(member, OWN, Endpoint.CHAT) == "a"
    assert accounted(rights(key(), of("c"), groups), OWN, Endpoint.CHAT) == "c"
    assert accounted(rights(key(), of(), groups), OWN, Endpoint.CHAT) == EVERYONE
    assert accounted(UNBOUND, OWN, Endpoint.CHAT) == ""


@given(
    st.frozensets(st.sampled_from("abc")),
    st.frozensets(st.sampled_from("abc")),
    st.lists(st.sampled_from(["small", "gpt-9", ALL]), max_size=2),
)
def test_narrowing_never_widens(
    mine: frozenset[str], wanted: frozenset[str], to: list[str]
) -> None:
    groups = table(SHUT, group("a", ALL), group("b", "gpt-9"), group("c", "small"))
    wide = rights(key(), of(*mine), groups)
    narrow = rights(key(*wanted, models=tuple(to)), of(*mine), groups)
    for model in (OWN, OTHER, SOLD):
        assert may(wide, model) or not may(narrow, model)
