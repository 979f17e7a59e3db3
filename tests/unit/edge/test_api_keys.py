"""The key ring: what opens the door, for how long, and that nothing else does."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.edge.auth.api_keys import KeyRing
from headrace.edge.options import KeyOptions
from headrace.edge.wait_policy import DEFAULT, FAIL, Keepalive
from headrace.gateway.policy import api_keys
from headrace.gateway.policy.records import EVERYONE, Group, Key, User
from headrace.gateway.policy.snapshot import Snapshot
from headrace.gateway.store.queries import Records
from headrace.protocol.errors import Code, HeadraceError

SECRET = b"s" * 32
MINE, STATIC = api_keys.mint(), api_keys.mint()
NOW = 1000.0


def ring(key: str = MINE, *, disabled: bool = False, now: float = NOW, **fields: object) -> KeyRing:
    made = KeyRing(
        SECRET, [KeyOptions("first", api_keys.digest(SECRET, STATIC))], clock=lambda: now
    )
    record = Key(id="k1", digest=api_keys.digest(SECRET, key), owner="ada", **fields)  # type: ignore[arg-type]
    users = (User(name="ada", disabled=disabled),)
    groups = (Group(name=EVERYONE, models=("*",)),)
    made.replace(Snapshot(Records(1, users, groups, (record,)), SECRET, made.static))
    return made


def headers(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((b"authorization", value) for value in values)]


def refusal(of: KeyRing, key: str = MINE) -> str:
    with pytest.raises(HeadraceError) as error:
        of.authenticate(headers(b"Bearer " + key.encode()))
    assert error.value.status == 401 or error.value.code is Code.UNAVAILABLE
    return error.value.message


def test_keys_of_the_store_and_of_the_file_open_the_door() -> None:
    made = ring(wait="fail", keepalive="chunk")
    mine = made.authenticate(headers(b"Bearer " + MINE.encode()))
    static = made.authenticate(headers(b"bearer " + STATIC.encode()))
    assert (mine.key_id, mine.patience, mine.keepalive) == ("k1", FAIL, Keepalive.CHUNK)
    assert (static.key_id, static.patience) == ("first", DEFAULT)
    assert mine.tenant != static.tenant
    assert made.used == {"k1": NOW}, "of keys of the store it is noted when they were used"


def test_all_keys_of_one_owner_are_one_tenant() -> None:
    other = api_keys.mint()
    one = ring().authenticate(headers(b"Bearer " + MINE.encode()))
    two = ring(other).authenticate(headers(b"Bearer " + other.encode()))
    assert one.tenant == two.tenant


def test_a_key_that_is_over_is_told_why_and_only_to_its_holder() -> None:
    assert refusal(ring(revoked=1.0)) == "This API key is revoked."
    assert refusal(ring(expires=NOW)) == "This API key is expired."
    assert refusal(ring(disabled=True)) == "This API key is disabled."
    assert refusal(ring(revoked=1.0), api_keys.mint()) == "Incorrect API key provided."
    ring(expires=NOW + 1).authenticate(headers(b"Bearer " + MINE.encode()))


def test_when_the_store_was_away_for_too_long_its_keys_rest() -> None:
    made = ring()
    made.believed_until = NOW - 1
    assert "cannot be checked" in refusal(made)
    made.authenticate(headers(b"Bearer " + STATIC.encode()))


def test_a_new_snapshot_takes_the_place_of_the_old_one() -> None:
    made = ring()
    made.authenticate(headers(b"Bearer " + MINE.encode()))
    made.replace(Snapshot(Records(2), SECRET, made.static))
    assert refusal(made) == "Incorrect API key provided."


RING = ring()
KEYS = [MINE.encode(), STATIC.encode()]


@settings(max_examples=2000)
@given(
    st.lists(
        st.binary(max_size=600)
        | st.builds(bytes.__add__, st.sampled_from([b"Bearer ", b"bearer"]), st.binary(max_size=80))
        | st.builds(
            lambda key, at, byte: b"Bearer " + key[:at] + byte + key[at + 1 :],
            st.sampled_from(KEYS),
            st.integers(0, 52),
            st.binary(max_size=2),
        ),
        max_size=3,
    )
)
@example([b"Bearer " + MINE.encode(), b"Bearer " + MINE.encode()])
@example([b"Bearer " + MINE.encode() + b"\x00"])
@example([b"Bearer " + MINE.encode().replace(b"hr_", b"HR_")])
def test_no_header_but_one_with_the_key_itself_opens_the_door(values: Sequence[bytes]) -> None:
    right = len(values) == 1 and values[0][:7].lower() == b"bearer "
    right = right and values[0][7:].strip() in KEYS
    try:
        RING.authenticate(headers(*values))
    except HeadraceError as error:
        assert error.code is Code.INVALID_API_KEY  # noqa: PT017
        assert not right
    else:
        assert right
