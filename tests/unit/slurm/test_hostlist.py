"""Node lists: what Slurm compresses, and lists that would fill the memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.slurm import hostlist


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("gpu1", ("gpu1",)),
        ("gpu[1-3,7]", ("gpu1", "gpu2", "gpu3", "gpu7")),
        ("gpu[008-010]", ("gpu008", "gpu009", "gpu010")),
        ("a1,b[1-2]-ib,c", ("a1", "b1-ib", "b2-ib", "c")),
        ("n[1,3]", ("n1", "n3")),
    ],
)
def test_lists(text: str, names: tuple[str, ...]) -> None:
    assert hostlist.expand(text) == names


@pytest.mark.parametrize("text", ["", "(null)", "N/A", "None assigned", "gpu[", "a b", "x[1-2"])
def test_no_list(text: str) -> None:
    assert hostlist.expand_or_none(text) == ()


@pytest.mark.parametrize("text", ["n[1-999999999]", "n[1-4000],m[1-4000]", "n[9-1]"])
def test_a_list_without_end_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nodes"):
        hostlist.expand(text)


@given(st.text(alphabet="gn12[],- ", max_size=40))
def test_any_text(text: str) -> None:
    assert len(hostlist.expand_or_none(text)) <= hostlist.MAX_NODES


def test_names_are_joined_if_they_are_names() -> None:
    assert hostlist.join(["gpu1", "gpu2.cluster"]) == "gpu1,gpu2.cluster"
    assert hostlist.join([]) == ""
    for name in ("", "-x", "a,b", "a b", "a[1-2]", "a\n", "x" * 64, "é"):
        with pytest.raises(ValueError, match="name"):
            hostlist.join([name])
