"""What comes from the command line is admitted only where it can do no harm."""

from collections.abc import Callable
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli.setup import values

HOSTILE = [
    "", " ", "a b", "a;b", "$(id)", "`id`", "a\nb", "a\0b", 'a"b', "a'b", "a\\b", "a\u2028b", "-x",
    "../x", "a/../b", "{a}", "a,b", "#", "a#b", "a=b", "*", "~", "é", "x" * 300,
]  # fmt: skip
DANGEROUS = set(" \t\r\n\0\"'`$\\;&|<>(){}*?!#~,=%^")
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIHqz17izArtHnZizS2zrMNuH/gB/z80bEDbHUE3OLGDc"


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "admit", [values.cluster, values.host, values.user, values.plain_path, values.target]
)
def test_hostile_text_is_refused_everywhere(admit: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"^not "):
        admit(text)


@given(st.text(max_size=80))
def test_what_is_admitted_as_a_host_or_user_holds_nothing_special(text: str) -> None:
    for admit in (values.host, values.user):
        try:
            admitted = admit(text)
        except ValueError:
            continue
        assert not set(admitted) & (DANGEROUS | {"/", "@"})
        assert admitted.isascii()
        assert not admitted.startswith("-")


@given(st.text(max_size=80))
def test_what_is_admitted_as_a_plain_path_needs_no_quotes(text: str) -> None:
    try:
        admitted = values.plain_path("/" + text)
    except ValueError:
        return
    assert not set(admitted) & (DANGEROUS | {":"})
    assert ".." not in PurePosixPath(admitted).parts


@given(st.text(max_size=80))
def test_what_is_admitted_between_quotes_cannot_end_them(text: str) -> None:
    try:
        admitted = values.quotable_path(text)
    except ValueError:
        return
    assert not set(admitted) & {'"', "\\", "$", "\n", "\0"}


@pytest.mark.parametrize("number", [0, -1, 65536, 2**40])
def test_what_is_no_port_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="not a port"):
        values.port(number)


@pytest.mark.parametrize(
    ("text", "admitted"),
    [
        ("login.example.org", "login.example.org"),
        ("a", "a"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("2001:DB8::0001", "2001:db8::1"),
    ],
)
def test_hosts(text: str, admitted: str) -> None:
    assert values.host(text) == admitted


@pytest.mark.parametrize("text", ["10.0.0", "10.0.0.1.5", "a..b", ".a", "a.", "a-.b", "1::2::3"])
def test_mistyped_hosts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a host"):
        values.host(text)


def test_addresses_have_brackets_where_they_need_them() -> None:
    assert values.address("::1", 22) == "[::1]:22"
    assert values.address("host", 22) == "host:22"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("llm@login.example.org", ("llm", "login.example.org", 22)),
        ("llm@login:2222", ("llm", "login", 2222)),
        ("llm@[::1]:2222", ("llm", "::1", 2222)),
        ("llm@[::1]", ("llm", "::1", 22)),
    ],
)
def test_targets(text: str, expected: tuple[str, str, int]) -> None:
    assert values.target(text) == expected


@pytest.mark.parametrize("text", ["login", "@login", "llm@", "llm@a:b", "llm@a:99999", "a@b@c"])
def test_mistyped_targets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not "):
        values.target(text)


@pytest.mark.parametrize(
    "line",
    [
        f"ssh-ed25519 {KEY}",
        f"ssh-ed25519 {KEY} root@login",
        f"[login.example.org]:2222 ssh-ed25519 {KEY}",
        f"login.example.org ssh-ed25519 {KEY}",
    ],
)
def test_a_host_key_is_found_in_each_form(line: str) -> None:
    assert values.host_key(line) == f"ssh-ed25519 {KEY}"


@pytest.mark.parametrize("line", ["", "ssh-dss AAAA", f"ssh-ed25519 {KEY}\nevil", "# none"])
def test_what_is_no_host_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not an SSH host key"):
        values.host_key(line)


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "x" * 201])
def test_a_models_name_is_printable(name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        values.model_name(name)
