"""A TCP proxy of the tests: a way between two parts that can break as networks break."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final

LOOPBACK: Final = "127.0.0.1"
CHUNK: Final = 65_536
PIECE_SECONDS: Final = 0.02
"""What trickles comes in pieces of so long."""
_ABORT: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a RST, and drops what was not sent."""


class Direction:
    """One direction of a connection: what is read here is written there, unless it is stopped."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.flows = asyncio.Event()
        self.flows.set()
        self.held: list[bytes] | None = None
        """What has been read and is kept back; None while nothing is."""

    def write(self, data: bytes) -> None:
        """Write what is read, or keep it."""
        if self.held is None:
            self.writer.write(data)
        else:
            self.held.append(data)

    def release(self) -> None:
        """Write what was kept back."""
        held, self.held = self.held, None
        if held:
            self.writer.write(b"".join(held))


class Link:
    """A connection through the proxy: `up` is away from the one that dialled."""

    def __init__(self, up: Direction, down: Direction) -> None:
        self.up = up
        self.down = down
        self.forgotten = False

    def end(self, *, reset: bool) -> None:
        """End both sides; with `reset` what is under way is lost."""
        for writer in (self.up.writer, self.down.writer):
            if reset:
                sock = writer.get_extra_info("socket")
                with contextlib.suppress(OSError, ValueError):  # it is closed already
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                writer.transport.abort()
            else:
                writer.close()


class Proxy:
    """Leads from `port` to `target` on the loopback. Healthy until told otherwise."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.target = target
        self.links: set[Link] = set()
        self._refusing = False
        self._frozen = (False, False)
        self._holding = (False, False)
        self._delay = 0.0
        self._rate = 0.0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port, limit=CHUNK)

    async def stop(self) -> None:
        """Break off everything."""
        if self._server is not None:
            self._server.close()
        self.heal()
        for link in list(self.links):
            link.forgotten = False
            self._set(link)
            link.end(reset=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- faults

    def cut(self, *, reset: bool = True) -> None:
        """End the connections that are open: with a RST, or with a FIN."""
        for link in list(self.links):
            link.end(reset=reset)

    def refuse(self) -> None:
        """End what is open, and every new connection at once, until `heal`."""
        self._refusing = True
        self.cut()

    def freeze(self, *, up: bool = True, down: bool = True) -> None:
        """Half-open: sockets stay, nothing is read or written any more, until `heal`."""
        self._frozen = up, down
        for link in self.links:
            self._set(link)

    def forget(self) -> None:
        """As a firewall that was restarted: what is open is dead for good, what is new is well."""
        for link in self.links:
            link.forgotten = True
            self._set(link)

    def slow(self, *, delay: float = 0.0, rate: float = 0.0) -> None:
        """Every piece comes `delay` seconds late, or at most `rate` bytes a second come at all."""
        self._delay, self._rate = delay, rate

    def heal(self) -> None:
        """Be well again. What was held comes now."""
        self._refusing = False
        self._frozen = (False, False)
        self._holding = (False, False)
        self._delay = self._rate = 0.0
        for link in self.links:
            self._set(link)

    # --- moments

    def hold(self, *, up: bool = True, down: bool = False) -> None:
        """Read what goes by and keep it back, so that one can say what has come through."""
        self._holding = up, down
        for link in self.links:
            self._set(link)

    def release(self) -> None:
        """Let what is held come through, and all that follows."""
        self._holding = (False, False)
        for link in self.links:
            self._set(link)

    def tear(self, whole: Callable[[bytes], int]) -> None:
        """Let the first `whole(held)` bytes of what is held come through, and cut the rest off."""
        for link in list(self.links):
            held = b"".join(link.up.held or [])
            link.up.held = None
            link.up.writer.write(held[: whole(held)])
            # What was written still goes out; the other end hears a RST.
            link.up.writer.close()
            link.down.writer.transport.abort()

    # --- bytes

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(
                LOOPBACK, self.target, limit=CHUNK
            )
        except OSError:
            writer.transport.abort()
            return
        link = Link(Direction(reader, far_writer), Direction(far_reader, writer))
        self.links.add(link)
        self._set(link)
        pumps = [asyncio.create_task(self._pump(each)) for each in (link.up, link.down)]
        try:
            # Who ends one direction ends both: none of our protocols goes on by half.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.links.discard(link)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            link.end(reset=False)

    async def _pump(self, direction: Direction) -> None:
        with contextlib.suppress(OSError):
            while True:
                await direction.flows.wait()
                data = await direction.reader.read(CHUNK)
                await direction.flows.wait()
                if not data:
                    return
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._write(direction, data)

    async def _write(self, direction: Direction, data: bytes) -> None:
        while data:
            piece = max(1, int(self._rate * PIECE_SECONDS)) if self._rate else len(data)
            direction.write(data[:piece])
            await direction.writer.drain()
            data = data[piece:]
            if self._rate:
                await asyncio.sleep(piece / self._rate)

    def _set(self, link: Link) -> None:
        directions = zip((link.up, link.down), self._frozen, self._holding, strict=True)
        for direction, frozen, holding in directions:
            if frozen or link.forgotten:
                direction.flows.clear()
            else:
                direction.flows.set()
            if not holding:
                direction.release()
            elif direction.held is None:
                direction.held = []
