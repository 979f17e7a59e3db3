"""The harness itself: what it must see, it sees."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from headrace.devcluster.loopback import free_ports
from headrace.protocol.errors import Code
from tests.faults.harness import report
from tests.faults.harness.cell import Result
from tests.faults.harness.faults import FAULTS, PARTS, Blow, Fault, choices, first_word
from tests.faults.harness.phases import Phase
from tests.faults.harness.proxy import LOOPBACK, Proxy
from tests.faults.harness.storm import Storm
from tests.faults.harness.verdict import Asked, Edge, Kind, Seen, Verdict, judge

ASKED = Asked("a test", 12, usage=True)
WORDS = ASKED.text.split(" ")


def seen(words: list[str], **changes: object) -> Seen:
    """The end of a stream that was well, but for `changes`."""
    whole = Seen(
        text=" ".join(words), done=True, status=200, ids={"a"}, roles=1, finishes=["length"],
        usages=[12],
    )  # fmt: skip
    return msgspec.structs.replace(whole, **changes)


# --- verdicts


def test_an_answer_as_it_must_be_is_unbroken() -> None:
    assert judge(ASKED, seen(WORDS)).kind is Kind.UNBROKEN


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (WORDS[:5] + WORDS[4:], Kind.DOUBLED),
        (WORDS[:8] + WORDS[3:], Kind.DOUBLED),
        (WORDS + WORDS, Kind.DOUBLED),
        (WORDS + WORDS[-1:], Kind.DOUBLED),
        (WORDS[:5] + WORDS[6:], Kind.MISSING),
        (WORDS[2:], Kind.MISSING),
        (WORDS[:-1], Kind.MISSING),
        ([], Kind.MISSING),
        ([*WORDS[:4], WORDS[5], WORDS[4], *WORDS[6:]], Kind.REORDERED),
        (WORDS[:4] + WORDS[8:] + WORDS[4:8], Kind.REORDERED),
        ([*WORDS[:4], "nonsense", *WORDS[5:]], Kind.WRONG),
    ],
)
def test_words_that_are_not_those_are_told_apart(words: list[str], kind: Kind) -> None:
    verdict = judge(ASKED, seen(words))
    assert verdict.kind is kind
    assert not verdict.good


def test_a_mistake_in_a_text_that_ends_with_an_error_is_seen_too() -> None:
    found = seen(WORDS[:5] + WORDS[4:8], done=False, error=str(Code.WORKER_LOST))
    assert judge(ASKED, found).kind is Kind.DOUBLED


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"error": "worker_lost", "done": False}, Kind.TYPED),
        ({"error": "worker_lost"}, Kind.WRONG),
        ({"error": "nobody_knows", "done": False}, Kind.WRONG),
        ({"error": "deadline_exceeded", "done": False}, Kind.HUNG),
        ({"broken": "TimeoutError", "done": False}, Kind.LOST),
        ({"done": False}, Kind.LOST),
        ({"roles": 2}, Kind.WRONG),
        ({"ids": {"a", "b"}}, Kind.WRONG),
        ({"finishes": ["length", "length"]}, Kind.WRONG),
        ({"finishes": []}, Kind.WRONG),
        ({"usages": [12, 12]}, Kind.WRONG),
        ({"usages": [7]}, Kind.WRONG),
        ({"usages": []}, Kind.WRONG),
    ],
)
def test_ends_are_told_apart(changes: dict[str, object], kind: Kind) -> None:
    assert judge(ASKED, seen(WORDS, **changes)).kind is kind


def test_a_connection_may_break_with_its_edge_alone() -> None:
    broken = seen(WORDS[:3], done=False, broken="ServerDisconnectedError")
    assert judge(ASKED, broken).kind is Kind.LOST
    assert judge(ASKED, broken, edge=Edge.KILLED).kind is Kind.EDGE
    # Whoever was given a status by an edge that ends in order is owed an end.
    assert judge(ASKED, broken, edge=Edge.STOPPED).kind is Kind.LOST
    unasked = seen([], done=False, broken="ServerDisconnectedError", status=0)
    assert judge(ASKED, unasked, edge=Edge.STOPPED).kind is Kind.EDGE
    hanging = seen(WORDS[:3], done=False)
    assert judge(ASKED, hanging, edge=Edge.KILLED).kind is Kind.LOST


# --- the choice of faults


def test_the_same_seed_is_the_same_faults() -> None:
    def first(seed: int) -> list[Blow]:
        return list(itertools.islice(choices(seed, ["worker-1", "worker-2"]), 50))

    assert first(7) == first(7)
    assert first(7) != first(8)


def test_every_fault_comes_to_pass_in_the_end() -> None:
    found = itertools.islice(choices(1, ["worker-1", "worker-2"]), 2000)
    assert {(blow.fault, blow.worker) for blow in found if blow.fault.part == "worker"} >= {
        (fault, worker)
        for fault in FAULTS
        if fault.part == "worker"
        for worker in ("worker-1", "worker-2")
    }
    found = itertools.islice(choices(1, ["worker-1"]), 2000)
    assert {blow.fault for blow in found} == set(FAULTS)


def test_every_part_has_its_row() -> None:
    assert set(PARTS) == {"edge", "bridge", "ssh", "gate", "leaf", "hub", "worker", "engine"}
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_the_first_word_about_a_request_is_found() -> None:
    head = b"PING\r\nPUB hr.state.a.b.c 3\r\nabc\r\n"
    word = b"PUB hr.res.e.r 5\r\n\r\n123\r\n"
    assert first_word(head + word + b"PUB $JS.ACK.x 4\r\n+ACK\r\n") == len(head + word)
    assert first_word(head) == len(head)
    assert first_word(head + word[:8]) == len(head)


# --- the proxy


@contextlib.asynccontextmanager
async def echoing() -> AsyncIterator[tuple[Proxy, list[bytes]]]:
    """A proxy before a server that keeps what it hears and says it back."""
    port, target = free_ports(2)
    heard: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                heard.append(data)
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, LOOPBACK, target)
    proxy = Proxy(port, target)
    await proxy.start()
    try:
        yield proxy, heard
    finally:
        await proxy.stop()
        server.close()


class Talker:
    """A client of the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def dial(cls, proxy: Proxy) -> "Talker":
        return cls(*await asyncio.open_connection(LOOPBACK, proxy.port))

    async def say(self, data: bytes, seconds: float = 20.0) -> bytes | None:
        """What comes back; None if nothing does in time."""
        self._writer.write(data)
        return await self.hear(len(data), seconds)

    async def hear(self, count: int, seconds: float = 20.0) -> bytes | None:
        try:
            return await asyncio.wait_for(self._reader.readexactly(count), seconds)
        except TimeoutError:
            return None

    def close(self) -> None:
        self._writer.close()


async def test_a_way_that_is_well_carries_everything() -> None:
    async with echoing() as (proxy, _):
        talker = await Talker.dial(proxy)
        data = bytes(range(256)) * 4096
        assert await talker.say(data) == data
        talker.close()


@pytest.mark.parametrize(
    ("reset", "ends"), [(True, ConnectionResetError), (False, asyncio.IncompleteReadError)]
)
async def test_a_cut_ends_what_is_open_and_not_what_comes(
    reset: bool, ends: type[Exception]
) -> None:
    async with echoing() as (proxy, _):
        talker = await Talker.dial(proxy)
        assert await talker.say(b"one") == b"one"
        proxy.cut(reset=reset)
        with pytest.raises(ends):
            await talker.hear(1)
        talker.close()
        again = await Talker.dial(proxy)
        assert await again.say(b"two") == b"two"
        again.close()


async def test_a_way_that_refuses_does_so_until_it_is_healed() -> None:
    async with echoing() as (proxy, heard):
        proxy.refuse()
        talker = await Talker.dial(proxy)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await talker.say(b"one")
        talker.close()
        assert not heard
        proxy.heal()
        again = await Talker.dial(proxy)
        assert await again.say(b"two") == b"two"
        again.close()


async def test_a_frozen_way_keeps_what_it_was_given() -> None:
    async with echoing() as (proxy, heard):
        talker = await Talker.dial(proxy)
        assert await talker.say(b"one") == b"one"
        proxy.freeze()
        assert await talker.say(b"two", 0.2) is None
        assert heard == [b"one"]
        proxy.heal()
        assert await talker.hear(3) == b"two"
        proxy.freeze(up=False)
        assert await talker.say(b"six", 0.2) is None
        assert heard[-1] == b"six"
        proxy.heal()
        assert await talker.hear(3) == b"six"
        talker.close()


async def test_a_forgotten_connection_is_dead_for_good() -> None:
    async with echoing() as (proxy, heard):
        talker = await Talker.dial(proxy)
        assert await talker.say(b"one") == b"one"
        proxy.forget()
        proxy.heal()
        assert await talker.say(b"two", 0.2) is None
        again = await Talker.dial(proxy)
        assert await again.say(b"new") == b"new"
        assert heard == [b"one", b"new"]
        talker.close()
        again.close()


async def test_a_slow_way_is_late_or_thin() -> None:
    async with echoing() as (proxy, _):
        clock = asyncio.get_running_loop().time
        talker = await Talker.dial(proxy)
        proxy.slow(delay=0.1)
        begun = clock()
        assert await talker.say(b"one") == b"one"
        assert clock() - begun > 0.19
        proxy.slow(rate=10_000)
        begun = clock()
        assert await talker.say(b"x" * 4000) == b"x" * 4000
        assert clock() - begun > 0.35
        talker.close()


async def test_what_is_held_comes_later_or_is_torn() -> None:
    async with echoing() as (proxy, heard):
        talker = await Talker.dial(proxy)
        proxy.hold()
        assert await talker.say(b"one", 0.2) is None
        assert not heard
        proxy.release()
        assert await talker.hear(3) == b"one"
        proxy.hold()
        assert await talker.say(b"twothree", 0.2) is None
        proxy.tear(lambda held: held.index(b"three"))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await talker.hear(1)
        assert heard == [b"one", b"two"]
        talker.close()


# --- the page


def test_the_page_tells_what_must_not_be(tmp_path: Path) -> None:
    blow = Blow(Fault("worker", "kill"), "worker-1")
    verdicts = (Verdict(Kind.UNBROKEN), Verdict(Kind.DOUBLED, "at token 3"))
    storm = Storm(10, 1)
    storm.note(Verdict(Kind.TYPED, "queue_full"), "one", 2.0)
    page = report.page(storm, [Result(blow, Phase.LAST, verdicts, 3.0)], "make faults")
    assert "| 1 | 3 | 1 | 1 | 0 | 1 | 0 | 0 | 0 |" in page
    assert "**1/2**, 3 s" in page
    assert "- worker kill, last frame unacknowledged: tokens doubled: at token 3" in page
    assert "`queue_full` 1" in page


def test_the_page_of_a_good_run_says_nothing_of_the_kind() -> None:
    storm = Storm(10, 1)
    storm.note(Verdict(Kind.UNBROKEN), "one", 2.0)
    assert "must not be" not in report.page(storm, [], "make faults")
