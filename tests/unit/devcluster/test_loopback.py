"""Ports that are chosen here are chosen by nobody else; another process is needed to see that."""

import os
import subprocess
import sys

import pytest

from headrace.devcluster import loopback

ELSEWHERE = (
    "import sys; from headrace.devcluster import loopback;print(loopback.claim(int(sys.argv[1])))"
)


def claimed_elsewhere(port: int) -> bool:
    argv = [sys.executable, "-c", ELSEWHERE, str(port)]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    return {"True": True, "False": False}[said]


def test_a_port_is_given_once() -> None:
    (port, other) = loopback.free_ports(2)
    assert port != other
    assert loopback.is_free(port)
    assert loopback.claim(port), "it is ours"
    assert not claimed_elsewhere(port)


def test_of_many_claims_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "_claims", {})
    monkeypatch.setattr(loopback, "KEPT", 2)
    first, *others = loopback.free_ports(3)
    assert claimed_elsewhere(first)
    assert not any(claimed_elsewhere(port) for port in others)
    for mark in loopback._claims.values():
        os.close(mark)


def test_where_none_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "claim", lambda _: False)
    with pytest.raises(OSError, match="no free port"):
        loopback.free_port()
