"""The words of a model file and those of the policy are the same ones."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.catalogue import schedule as ours
from headrace.catalogue.scale import Scale
from headrace.scaler import schedule as theirs
from headrace.scaler.spec import Scaling

FROM_ELSEWHERE = {"slots", "walltime_seconds", "stale_seconds"}


def test_every_word_of_the_policy_can_be_said() -> None:
    said = {field.name: field for field in msgspec.structs.fields(Scale)}
    read = {field.name: field for field in msgspec.structs.fields(Scaling)}
    assert read.keys() - FROM_ELSEWHERE == said.keys()
    for name, field in said.items():
        assert field.default == read[name].default


@given(
    st.from_regex(r"(mon|tue-fri|sat,sun|daily|x) \d\d:\d\d-\d\d:\d\d", fullmatch=True)
    | st.text(max_size=20)
)
def test_windows_are_read_alike(when: str) -> None:
    try:
        expected = theirs.parse(when)
    except ValueError:
        with pytest.raises(ValueError, match="when"):
            ours.parse(when)
    else:
        assert ours.parse(when) == expected
