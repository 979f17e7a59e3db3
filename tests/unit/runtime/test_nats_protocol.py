"""NATS' protocol as bytes: whatever the network cuts, the same messages come out."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.runtime.nats import protocol
from headrace.runtime.nats.protocol import MAX_LINE, Message, Parser, WireError

Seen = tuple[bytes, str, str, bytes, dict[str, str] | None]


def parse(pieces: list[bytes]) -> tuple[list[Seen], list[bytes]]:
    seen: list[Seen] = []
    lines: list[bytes] = []

    def on_message(number: bytes, message: Message) -> None:
        seen.append((number, message.subject, message.reply, message.data, message.headers))

    parser = Parser(on_message, lines.append)
    for piece in pieces:
        parser.feed(piece)
    return seen, lines


STATUS = b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 1\r\n\r\n"
STREAM = (
    b'INFO {"nonce":"x"}\r\n'
    b"MSG a.b 1 5\r\nhello\r\n"
    b"PING\r\n"
    b"MSG a.b 2 _INBOX.r.1 0\r\n\r\n"
    + b"HMSG in 3 %d %d\r\n%b\r\n" % (len(STATUS), len(STATUS), STATUS)
    + b"HMSG in 3 re.ply 23 28\r\nNATS/1.0\r\nA: b\r\nC:d\r\n\r\nhello\r\n"
    + b"MSG big 4 3000\r\n"
    + b"\r\nMSG x 1 1\r\n" * 230
    + b"y" * 10
    + b"\r\n+OK\r\n-ERR 'Stale Connection'\r\n"
)
WHOLE = parse([STREAM])


def test_what_a_server_says() -> None:
    seen, lines = WHOLE
    assert lines == [b'INFO {"nonce":"x"}', b"PING", b"+OK", b"-ERR 'Stale Connection'"]
    assert seen[0] == (b"1", "a.b", "", b"hello", None)
    assert seen[1] == (b"2", "a.b", "_INBOX.r.1", b"", None)
    assert seen[2][4] == {
        "Status": "408",
        "Description": "Request Timeout",
        "Nats-Pending-Messages": "1",
    }
    assert seen[3] == (b"3", "in", "re.ply", b"hello", {"A": "b", "C": "d"})
    assert len(seen[4][3]) == 3000
    assert len(seen) == 5


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_however_it_is_cut_it_says_the_same(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(ends)]
    assert parse(pieces) == WHOLE


def test_byte_by_byte() -> None:
    assert parse([STREAM[at : at + 1] for at in range(len(STREAM))]) == WHOLE


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_garbage_raises_what_a_connection_expects(pieces: list[bytes]) -> None:
    try:
        parse(pieces)
    except (WireError, ValueError, IndexError):
        return


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    with pytest.raises(WireError):
        parse([b"x" * 1000] * (MAX_LINE // 1000 + 2))


@given(data=st.binary(max_size=100), reply=st.sampled_from(["", "_INBOX.a.1"]))
def test_what_we_send_is_what_a_server_would_send_on(data: bytes, reply: str) -> None:
    sent = protocol.publish("a.b", data, reply)
    assert sent.startswith(b"PUB a.b ")
    # A server puts the subscription's number behind the subject.
    relayed = sent.replace(b"PUB a.b", b"MSG a.b 7", 1)
    assert parse([relayed])[0] == [(b"7", "a.b", reply, data, None)]


def test_headers_travel() -> None:
    sent = protocol.publish_with_headers("a", b"data", {"Nats-Msg-Id": "x.0"}, "re")
    assert parse([sent.replace(b"HPUB a", b"HMSG a 1", 1)])[0] == [
        (b"1", "a", "re", b"data", {"Nats-Msg-Id": "x.0"})
    ]


@pytest.mark.parametrize("header", [{"a": "b\r\nc: d"}, {"a:b": "c"}, {"a\n": "b"}])
def test_a_header_cannot_become_another(header: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        protocol.publish_with_headers("a", b"", header)
