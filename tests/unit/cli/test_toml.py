"""The TOML that we write is the TOML that Python reads."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.runtime import toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
VALUE = st.one_of(
    TEXT,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(TEXT, max_size=5),
)
KEYS = st.from_regex(r"[a-zA-Z0-9_-]{1,10}", fullmatch=True)


@given(st.dictionaries(KEYS, VALUE, max_size=5), st.dictionaries(KEYS, VALUE, max_size=5))
def test_what_is_written_is_read_again(
    first: dict[str, toml.Value], second: dict[str, toml.Value]
) -> None:
    text = toml.document(
        "two lines\nof comment", toml.table("", {}), toml.table("[a]", first),
        toml.table("[[b]]", second), toml.table("[[b]]", first),
    )  # fmt: skip
    assert tomllib.loads(text) == {"a": first, "b": [second, first]}


def test_what_is_not_unicode_is_refused() -> None:
    with pytest.raises(ValueError, match="Unicode"):
        toml.string("\ud800")
