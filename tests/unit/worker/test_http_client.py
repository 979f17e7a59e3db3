"""HTTP to an engine that answers in every way that HTTP allows, and in some that it does not."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.protocol.errors import Code, HeadraceError
from headrace.worker import http_client
from headrace.worker.http_client import EngineClient, EngineError, Exchange, Flow

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Sink:
    """Takes notes; pauses or stops where a test wants it."""

    def __init__(self, flow: Flow = Flow.GO) -> None:
        self.flow = flow
        self.status = 0
        self.media = ""
        self.data = b""
        self.pieces = 0
        self.due = 0.0
        self.looked = asyncio.Event()

    def rested(self) -> None:
        self.looked.set()

    def head(self, status: int, media: str) -> None:
        self.status, self.media = status, media

    def body(self, data: bytes) -> Flow:
        self.data += data
        self.pieces += 1
        return self.flow


class Raising(Sink):
    def body(self, data: bytes) -> Flow:
        raise HeadraceError(Code.RESPONSE_TOO_LARGE, "too large")


class Engine:
    """A server that answers with given bytes, piece by piece."""

    def __init__(self, socket: Path) -> None:
        self.client = EngineClient(socket)
        self.request = b""
        self.left = asyncio.Event()
        self.pieces: list[bytes] = []
        self.stays = False
        self.connections = 0
        self.served = 0
        self.writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writer = writer
        try:
            while self.stays or not self.request:
                self.request = await reader.readuntil(b"\r\n\r\n")
                self.served += 1
                for piece in self.pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has left meanwhile
        self.left.set()
        writer.close()

    async def post(self, sink: Sink, *pieces: bytes, stays: bool = False) -> Exchange:
        self.pieces, self.stays = list(pieces), stays
        return await self.client.post("/v1/x", b"", sink)

    async def whole(self, *pieces: bytes, stays: bool = False) -> Sink:
        sink = Sink()
        exchange = await self.post(sink, *pieces, stays=stays)
        try:
            assert await asyncio.wait_for(exchange.complete(), 5)
        finally:
            exchange.close()
        return sink


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="hw", dir="/tmp") as folder:
        socket = Path(folder) / "engine.sock"
        engine = Engine(socket)
        async with await asyncio.start_unix_server(engine.serve, socket):
            yield engine
            engine.client.close()


async def test_a_request_is_complete(engine: Engine) -> None:
    engine.pieces = [b"HTTP/1.1 204 No Content\r\n\r\n"]
    assert await engine.client.ask("/v1/x", b'{"a":1}', 5) == 204
    line, *headers = engine.request.decode().strip().split("\r\n")
    assert line == "POST /v1/x HTTP/1.1"
    assert "Content-Length: 7" in headers
    assert not any(header.startswith("Connection") for header in headers)
    assert "Accept-Encoding: identity" in headers


async def test_a_body_with_a_length(engine: Engine) -> None:
    sink = await engine.whole(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", b"cd", stays=True)
    assert (sink.status, sink.media, sink.data) == (200, "application/json", b"abcd")


async def test_a_body_in_chunks(engine: Engine) -> None:
    sink = await engine.whole(CHUNKED, b"2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n", stays=True)
    assert (sink.media, sink.data) == ("text/event-stream", b"abc")


async def test_a_body_that_ends_with_the_connection(engine: Engine) -> None:
    sink = await engine.whole(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nab", b"cd")
    assert (sink.media, sink.data) == ("text/plain", b"abcd")


async def test_an_announcement_is_no_answer(engine: Engine) -> None:
    sink = await engine.whole(
        b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 400 Bad\r\nContent-Length: 1\r\n\r\nx"
    )
    assert (sink.status, sink.data) == (400, b"x")


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTTP/1.1 200 OK\r\nContent-Le",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",),
        (CHUNKED, b"5\r\nab"),
        (CHUNKED, b"2\r\nab\r\n"),
        (CHUNKED, b"zz\r\n"),
        (b"SSH-2.0-OpenSSH_9.2\r\n",),
        (b"HTTP/1.1 200 OK\r\n", *[b"X-Pad: " + b"x" * 10_000 + b"\r\n"] * 10),
        (b"HTTP/1.1 200 OK\r\nX-Pad: ", *[b"x" * 10_000] * 10),
    ],
)
async def test_what_breaks_off_is_an_error(engine: Engine, pieces: tuple[bytes, ...]) -> None:
    stays = len(pieces) > 5  # it is too much before it ends
    exchange = await engine.post(Sink(), *pieces, stays=stays)
    with pytest.raises(EngineError):
        await asyncio.wait_for(exchange.complete(), 5)
    exchange.close()


async def test_an_engine_that_is_not_there() -> None:
    http_client = EngineClient(Path("/tmp/no-such.sock"))
    with pytest.raises(OSError, match="No such file"):
        await http_client.post("/", b"", Sink())
    assert not await http_client.healthy("/health", 1)
    assert await http_client.ask("/", b"", 1) == 0


async def test_health_has_a_time_limit(engine: Engine) -> None:
    engine.stays = True
    assert not await engine.client.healthy("/health", 0.05)
    await asyncio.wait_for(engine.left.wait(), 5)


async def test_to_close_is_to_break_off(engine: Engine) -> None:
    exchange = await engine.post(Sink(), CHUNKED, b"1\r\na\r\n", stays=True)
    exchange.close()
    await asyncio.wait_for(engine.left.wait(), 5)


async def test_a_sink_can_stop_and_the_engine_may_still_finish(engine: Engine) -> None:
    sink = Sink(Flow.STOP)
    exchange = await engine.post(sink, CHUNKED, b"1\r\na\r\n", b"1\r\nb\r\n", stays=True)
    assert await asyncio.wait_for(exchange.complete(), 5)
    exchange.close()
    assert sink.data == b"a", "nothing comes after the end"
    await asyncio.wait_for(engine.left.wait(), 5)


async def test_a_sink_can_pause(engine: Engine) -> None:
    sink = Sink(Flow.PAUSE)
    piece = b"x" * 200_000
    chunk = b"%x\r\n%b\r\n" % (len(piece), piece)
    exchange = await engine.post(sink, CHUNKED, *[chunk] * 20, b"0\r\n\r\n")
    pauses = 0
    async with asyncio.timeout(20):
        while not await exchange.complete():
            seen = len(sink.data)
            await asyncio.sleep(0.005)
            assert len(sink.data) == seen, "nothing comes in a pause"
            pauses += 1
            exchange.resume()
    exchange.close()
    assert pauses > 3
    assert sink.data == piece * 20


async def test_a_sink_can_rest_and_takes_what_has_come_meanwhile_at_once(engine: Engine) -> None:
    sink = Sink(Flow.REST)
    sink.due = asyncio.get_running_loop().time() + 0.3
    exchange = await engine.post(sink, CHUNKED, *[b"1\r\na\r\n"] * 9, stays=True)
    async with asyncio.timeout(5):
        await sink.looked.wait()
        while len(sink.data) < 9:  # noqa: ASYNC110  # a sink tells nobody
            await asyncio.sleep(0.01)
    assert sink.pieces < 9, "each was read by itself"
    exchange.close()
    await asyncio.wait_for(engine.left.wait(), 5)


async def test_what_a_sink_raises_is_raised(engine: Engine) -> None:
    exchange = await engine.post(Raising(), CHUNKED, b"1\r\na\r\n", stays=True)
    with pytest.raises(HeadraceError):
        await asyncio.wait_for(exchange.complete(), 5)
    exchange.close()
    await asyncio.wait_for(engine.left.wait(), 5)


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"


async def test_a_connection_is_used_again(engine: Engine) -> None:
    await engine.whole(WHOLE, stays=True)
    await engine.whole(CHUNKED, b"1\r\na\r\n0\r\n\r\n", stays=True)
    sink = await engine.whole(WHOLE, stays=True)
    assert sink.data == b"x"
    assert (engine.connections, engine.served) == (1, 3)
    assert engine.client.open == 0


async def test_also_where_the_end_of_the_response_comes_after_the_end_of_the_answer(
    engine: Engine,
) -> None:
    engine.pieces, engine.stays = [CHUNKED, b"1\r\na\r\n"], True
    exchange = await engine.client.post("/v1/x", b"", Sink(Flow.STOP))
    await asyncio.wait_for(exchange.complete(), 5)
    exchange.close()
    assert engine.writer is not None
    engine.writer.write(b"0\r\n\r\n")
    async with asyncio.timeout(5):
        while engine.client.open:  # noqa: ASYNC110  # a client tells nobody
            await asyncio.sleep(0.001)
    await engine.whole(WHOLE, stays=True)
    assert engine.connections == 1


@pytest.mark.parametrize(
    "last", [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", WHOLE + b"y"]
)
async def test_one_that_ends_or_says_too_much_is_not(engine: Engine, last: bytes) -> None:
    await engine.whole(last, stays=True)
    await asyncio.sleep(0.01)
    await engine.whole(WHOLE, stays=True)
    assert engine.connections == 2


async def test_one_that_is_old_is_not(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    await engine.whole(WHOLE, stays=True)
    monkeypatch.setattr(http_client, "KEEP_SECONDS", 0.0)
    await engine.whole(WHOLE, stays=True)
    assert engine.connections == 2
    assert engine.client.open == 0


async def test_one_that_the_engine_closes_meanwhile_is_made_anew(engine: Engine) -> None:
    await engine.whole(WHOLE, stays=True)
    assert engine.writer is not None
    engine.writer.close()
    sink = Sink()
    engine.pieces = [WHOLE]
    exchange = await engine.client.post("/v1/x", b"", sink)  # before it can be seen
    assert await asyncio.wait_for(exchange.complete(), 5)
    exchange.close()
    assert sink.data == b"x"
    assert engine.connections == 2


async def test_where_the_engine_is_gone_as_well_it_is_an_error(engine: Engine) -> None:
    await engine.whole(WHOLE, stays=True)
    assert engine.writer is not None
    engine.writer.close()
    engine.client._socket = "/tmp/no-such.sock"
    exchange = await engine.client.post("/v1/x", b"", Sink())
    with pytest.raises(OSError, match="No such file"):
        await asyncio.wait_for(exchange.complete(), 5)
    exchange.close()


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.integers(1, 40))
async def test_any_chunking_gives_the_same_body(body: list[bytes], step: int) -> None:
    sink = Sink()
    exchange = Exchange(sink, EngineClient(Path()), b"")
    raw = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in body) + b"0\r\n\r\n"
    for start in range(0, len(raw), step):
        exchange.data_received(raw[start : start + step])
    assert await exchange.complete()
    assert sink.data == b"".join(body)
