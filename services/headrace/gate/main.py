"""The gate: the forced command of the tunnel key. It joins stdin and stdout to the leaf's TCP port.

Whoever holds the tunnel key gets this pipe and nothing else, so the less the gate does, the less
there is to attack: it takes no argument, never looks at an environment variable (the command that
the client asked for, SSH_ORIGINAL_COMMAND, is one) and parses nothing of what it copies.

It must run under the system's Python of a service node, however old: the standard library alone,
in one file, in the syntax of Python 3.6. `headrace.gate.script` copies this file as it is.
"""

import os
import resource
import select
import socket
import sys

BUFFER_BYTES = 64 * 1024
"""What one direction holds at most: as much as a pipe holds. Four times as much measured slower."""

CONNECT_SECONDS = 5.0

EXIT_USAGE = 64
EXIT_UNREACHABLE = 69
EXIT_CONFIG = 78
"""Exit codes of sysexits.h. The bridge never reads stderr: it tells its operator from these."""


class GateError(Exception):
    """The gate stays closed; the text is for the person who looks after it."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Direction:
    """What flows one way: one buffer, filled by one read and emptied before the next."""

    def __init__(self, source: int, sink: int) -> None:
        self.waiting = False
        """Whether the reader is slow: bytes wait here, and nothing is read until they have left."""
        self._source = source
        self._sink = sink
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0

    def fill(self) -> None:
        """Read once and pass it on. Raises EOFError where the source has closed."""
        try:
            self._end = os.readv(self._source, [self._buffer])
        except BlockingIOError:
            return
        if not self._end:
            raise EOFError
        self._start = 0
        self.empty()

    def empty(self) -> None:
        """Pass on as much as the sink takes now."""
        try:
            self._start += os.write(self._sink, self._view[self._start : self._end])
        except BlockingIOError:
            self.waiting = True
        else:
            self.waiting = self._start < self._end


class Joint:
    """`source` copied to `leaf` and `leaf` to `sink`, all of them file descriptors.

    One thread and poll(2): measured as fast as two threads that block, and only poll notices that
    the SSH session is over while the leaf neither reads nor writes.
    """

    def __init__(self, source: int, sink: int, leaf: int) -> None:
        self._source = source
        self._sink = sink
        self._leaf = leaf
        self._up = Direction(source, leaf)
        self._down = Direction(leaf, sink)
        self._poll = select.poll()

    def run(self) -> None:
        """Copy until one of the three closes."""
        handlers = {self._source: self._on_source, self._sink: self._on_sink}
        handlers[self._leaf] = self._on_leaf
        for descriptor in handlers:
            os.set_blocking(descriptor, False)
        self._watch()
        try:
            while True:
                for descriptor, event in self._poll.poll():
                    before = (self._up.waiting, self._down.waiting)
                    handlers[descriptor](event)
                    if before != (self._up.waiting, self._down.waiting):
                        self._watch()
        except (EOFError, ConnectionError):
            return

    def _watch(self) -> None:
        """Ask poll for what the two directions can do next."""
        up, down = self._up.waiting, self._down.waiting
        self._poll.register(self._leaf, select.POLLOUT * up | select.POLLIN * (not down))
        # Asked for nothing, poll still reports that the sink's reader has gone.
        self._poll.register(self._sink, select.POLLOUT * down)
        self._poll.register(self._source, select.POLLIN)
        if up:
            # A closed source would be reported without end while what came from it waits.
            self._poll.unregister(self._source)

    def _on_source(self, _event: int) -> None:
        self._up.fill()

    def _on_sink(self, event: int) -> None:
        if event & (select.POLLERR | select.POLLHUP):
            raise EOFError
        self._down.empty()

    def _on_leaf(self, event: int) -> None:
        if event & select.POLLOUT:
            self._up.empty()
        if event & ~select.POLLOUT:
            if self._down.waiting:  # reading was not asked for: the connection has failed
                raise EOFError
            self._down.fill()


def serve(host: str, port: int) -> None:
    """Join stdin and stdout to `host`:`port` until either side closes.

    Raises GateError if there is no connection within `CONNECT_SECONDS`.
    """
    try:
        leaf = socket.create_connection((host, port), CONNECT_SECONDS)
    except OSError as error:
        reason = f"the leaf at {host} port {port} can't be reached: {error}"
        raise GateError(reason, EXIT_UNREACHABLE) from error
    with leaf:
        leaf.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Joint(0, 1, leaf.fileno()).run()


def configured() -> "tuple[str, int]":
    """The leaf's host and port from ``~/.config/headrace/gate.json``.

    The home is the password database's, for the environment is the client's to choose.
    """
    import json  # none of the three where the address is part of the file: it starts sooner
    import pathlib
    import pwd

    home = pwd.getpwuid(os.getuid()).pw_dir
    path = pathlib.Path(home, ".config", "headrace", "gate.json")
    try:
        address = json.loads(path.read_text(encoding="utf-8"))
        return str(address["host"]), int(address["port"])
    except OSError as error:
        raise GateError(f"{path}: {error.strerror}", EXIT_CONFIG) from error
    except (ValueError, KeyError, TypeError) as error:
        example = '{"host": "127.0.0.1", "port": 7422}'
        raise GateError(f"{path}: must be like {example}", EXIT_CONFIG) from error


def run(host: str = "", port: int = 0) -> int:
    """The gate as a process; without an address, the configured one. Returns the exit code."""
    # A core file would hold what passed through.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if len(sys.argv) > 1:
        sys.stderr.write("headrace-gate: takes no argument\n")
        return EXIT_USAGE
    try:
        if not host:
            host, port = configured()
        serve(host, port)
    except GateError as error:
        sys.stderr.write(f"headrace-gate: {error}\n")
        return error.exit_code
    return 0


def main() -> int:
    """The console script ``headrace-gate``."""
    return run()
