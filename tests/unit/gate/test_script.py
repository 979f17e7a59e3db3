"""What is put on a service node: nothing that a shell or sshd could misread gets into it."""

import ast
import re

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gate.script import authorized_key, render

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"  # RFC 8709
PATH = "/opt/headrace/gate"


def test_the_line() -> None:
    line = authorized_key(PATH, KEY)
    assert line == f'restrict,command="{PATH}" {KEY} headrace-tunnel'


def test_a_keys_own_comment_is_replaced() -> None:
    assert authorized_key(PATH, f"{KEY} me@home\n") == authorized_key(PATH, KEY)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==",
        KEY.replace("ssh-ed25519 ", "ssh-rsa "),
        KEY[:-4],
        f'command="sh" {KEY}',
        f"{KEY}\n{KEY}",
        f"{KEY} comment\nrestrict {KEY}",
        f"{KEY}!",
    ],
)
def test_no_other_key(key: str) -> None:
    with pytest.raises(ValueError, match="public key"):
        authorized_key(PATH, key)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "gate",
        "./gate",
        "~/gate",
        "/",
        "/opt/head race/gate",
        '/opt/"gate',
        "/opt/gate'",
        "/opt/gate\n",
        "/opt/gate --flag",
        "/opt/gate;sh",
        "/opt/$(sh)",
        "/opt/`sh`",
        "/opt/gate\\",
        "/opt/gate|sh",
        "/opt/gäte",
        "/opt/*",
    ],
)
def test_no_path_that_a_shell_treats_in_a_special_way(path: str) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        authorized_key(path, KEY)
    with pytest.raises(ValueError, match="absolute path"):
        render("127.0.0.1", 7422, path)


@given(st.text() | st.from_regex(r"(/[\w .,;\"'$-]+){1,3}", fullmatch=True))
def test_a_line_says_what_was_meant_or_is_not_made(path: str) -> None:
    try:
        line = authorized_key(path, KEY)
    except ValueError:
        return
    assert "\n" not in line
    assert line.count('"') == 2
    options = asyncssh.import_authorized_keys(line)._user_entries[0].options
    assert options == {"restrict": True, "command": path}
    assert re.fullmatch(r"[/\w.+@-]+", path, re.ASCII)


@pytest.mark.parametrize("host", ["", "a b", "a'b", 'a"b', "a\nb", "-oProxy", "host\\", "hôte"])
def test_no_host_but_a_host(host: str) -> None:
    with pytest.raises(ValueError, match="host"):
        render(host, 7422, "/usr/bin/python3")


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_no_port_but_a_port(port: int) -> None:
    with pytest.raises(ValueError, match="port"):
        render("127.0.0.1", port, "/usr/bin/python3")


def test_no_first_line_that_an_old_kernel_cuts_off() -> None:
    with pytest.raises(ValueError, match="too long"):
        render("127.0.0.1", 7422, "/" + "p" * 121)


@given(st.text(), st.integers())
def test_a_script_has_its_address_within_or_is_not_made(host: str, port: int) -> None:
    try:
        script = render(host, port, "/usr/bin/python3")
    except ValueError:
        return
    assert script.startswith("#!/usr/bin/python3 -IS\n")
    last = ast.parse(script, feature_version=(3, 6)).body[-1]
    assert ast.unparse(last) == f"sys.exit(run({host!r}, {port}))"
