"""The life of a daemon: start, run until a signal or a fatal error, drain until a deadline.

Signals, readiness and the drain's deadline live here and nowhere else. A daemon is one coroutine
that gets a `Lifecycle`; it starts its parts, calls `ready()`, waits for `stopping`, drains, and
returns its exit code.
"""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from headrace.runtime.config import ConfigError
from headrace.runtime.logging import Logger

GC_THRESHOLD: Final = 20_000
"""New containers, less those freed, before Python looks for cycles. By default 700, which
a few requests in work reach again and again with nothing to be found."""

E = TypeVar("E", bound=BaseException)

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 78
"""``EX_CONFIG`` of sysexits.h: the service manager should not try again."""

HURRY_SECONDS: Final = 15.0
"""What a drain has left at most once SIGTERM has come again. It may be the last one: after that
Slurm waits KillWait (30 s by default) before SIGKILL, and the engine must end in that time too."""


class FatalError(Exception):
    """The daemon can't go on; the text is for the operator."""

    def __init__(self, reason: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Lifecycle:
    """Handed to a daemon: tells it when to stop, and tells the world when it is ready."""

    def __init__(self, log: Logger, drain_seconds: float) -> None:
        self.log = log
        self.stopping = asyncio.Event()
        self.hurried = asyncio.Event()
        """Set once the drain was shortened."""
        self.reason = ""
        """Why it stops; empty before."""
        self.drain_seconds = drain_seconds
        self._deadline: float | None = None
        self._timeouts: set[asyncio.Timeout] = set()

    def stop(self, reason: str) -> None:
        """Begin to drain; the first call counts."""
        if not self.stopping.is_set():
            self.reason = reason
            self._set_deadline(self.drain_seconds)
            self.log.info("stopping", reason=reason)
            notify("STOPPING=1")
            self.stopping.set()

    def hurry(self, reason: str) -> None:
        """Leave the drain `HURRY_SECONDS` at most; what it has less of stays as it is."""
        if self.drain_left > HURRY_SECONDS:
            self._set_deadline(HURRY_SECONDS)
        self.log.warning("stopping_sooner", reason=reason, seconds=round(self.drain_left, 1))
        self.hurried.set()

    def ready(self) -> None:
        """Tell the service manager, if there is one, that the daemon does its work now."""
        # What is there now stays to the end: the search for cycles need never look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 10, 10)
        self.log.info("ready", pid=os.getpid())
        notify("READY=1")

    @property
    def drain_left(self) -> float:
        """Seconds left to drain, 0 when they are over."""
        if self._deadline is None:
            return self.drain_seconds
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def draining(self) -> AsyncIterator[None]:
        """What runs inside may take until the drain is over, also if that comes sooner meanwhile.

        Raises TimeoutError then.
        """
        async with asyncio.timeout_at(self._deadline) as timeout:
            self._timeouts.add(timeout)
            try:
                yield
            finally:
                self._timeouts.discard(timeout)

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = asyncio.get_running_loop().time() + seconds
        for timeout in self._timeouts:
            if not timeout.expired():
                timeout.reschedule(self._deadline)


Main = Callable[[Lifecycle], Awaitable[int]]


def run(main: Main, log: Logger, *, drain_seconds: float = 30.0) -> int:
    """Run `main` in a fresh event loop and return the process's exit code.

    SIGTERM and SIGINT begin the drain. SIGTERM during a drain shortens it: service managers send it
    again before they kill. SIGINT then ends it at once, for that is a person who insists. No core
    file is ever written, for it would hold prompts (invariant 4).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_supervise(main, log, drain_seconds))
    except ConfigError as error:
        return _leave(log, "bad_configuration", error, EXIT_CONFIG)
    except FatalError as error:
        return _leave(log, "fatal", error, error.exit_code)
    except BaseExceptionGroup as group:
        fatal = first_of(group, FatalError)
        if fatal is not None:
            return _leave(log, "fatal", fatal, fatal.exit_code)
        log.error("crashed", exc_info=first_of(group, Exception) or group)
        return EXIT_FAILED
    except Exception as error:
        log.error("crashed", exc_info=error)
        return EXIT_FAILED


async def _supervise(main: Main, log: Logger, drain_seconds: float) -> int:
    life = Lifecycle(log, drain_seconds)
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main(life))

    def on_signal(number: signal.Signals) -> None:
        if not life.stopping.is_set():
            life.stop(number.name)
        elif number == signal.SIGTERM:
            life.hurry(number.name)
        else:
            log.warning("stopping_at_once", signal=number.name)
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await task
    except asyncio.CancelledError:
        return EXIT_FAILED


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # a small install without it runs, slower
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _leave(log: Logger, action: str, error: Exception, exit_code: int) -> int:
    # An operator reads this sentence first: on the terminal as it is, and in the log as a field.
    log.error(action, reason=str(error))
    sys.stderr.write(f"headrace: {error}\n")
    return exit_code


def first_of(group: BaseExceptionGroup[BaseException], kind: type[E]) -> E | None:
    """The first exception of `kind` anywhere in `group`."""
    for error in group.exceptions:
        if isinstance(error, kind):
            return error
        if isinstance(error, BaseExceptionGroup):
            inner = first_of(error, kind)
            if inner is not None:
                return inner
    return None


def notify(message: str) -> None:
    """Send `message` to systemd's notification socket, if there is one (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # A daemon must not die because its manager does not listen.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.sendto(message.encode(), address)
