"""The pipes of one cluster: admitted, opened, counted, and cut when they are dead."""

import asyncio
from collections.abc import Callable
from typing import Final

import asyncssh

from headrace.bridge.connection import open_session
from headrace.bridge.metrics import ClusterMetrics
from headrace.bridge.options import BridgeCluster
from headrace.bridge.pump import Pipe
from headrace.bridge.trouble import RepeatedLog, of_exit
from headrace.bridge.watchdog import LinkActivity, LinkState, SilenceLimits, judge, listen, patience

OPEN_SECONDS: Final = 5.0
"""What sshd may take to start the gate."""


class _Watched:
    """What is kept about a pipe."""

    def __init__(self, now: float) -> None:
        self.hearing = LinkActivity(now)
        self.sent = 0
        self.received = 0


class Pipes:
    """Joins each connection of the hub to a session of the SSH connection, if there is one.

    While there is none, a connection of the hub is closed at once: its server dials again by
    itself, and must not believe meanwhile that it has reached somebody. `drop` lets go of an SSH
    connection that is of no use.
    """

    def __init__(
        self,
        cluster: BridgeCluster,
        metrics: ClusterMetrics,
        complaints: RepeatedLog,
        drop: Callable[[], None],
    ) -> None:
        self._limits = SilenceLimits(cluster.silence_seconds, cluster.greeting_seconds)
        self._most = cluster.max_sessions
        self._metrics = metrics
        self._complaints = complaints
        self._drop = drop
        self._connection: asyncssh.SSHClientConnection | None = None
        self._pipes: dict[Pipe, _Watched] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._last_cut: float | None = None
        self._slow_starts = 0
        """Starts in a row that took too long."""

    def attach(self, connection: asyncssh.SSHClientConnection) -> None:
        """Open sessions on `connection` from now on."""
        self._connection = connection
        self._last_cut = None

    def detach(self) -> None:
        """Cut all pipes, and admit none until there is a connection again."""
        self._connection = None
        for pipe in list(self._pipes):
            pipe.cut()

    def accept(self) -> asyncio.Protocol:
        """The protocol of a new connection of the hub."""
        pipe = Pipe(self._finished)
        if self._connection is None:
            self._metrics.refuse("not_connected")
            pipe.cut()
        elif len(self._pipes) >= self._most:
            self._metrics.refuse("too_many")
            self._complaints.utter("too_many", f"the hub made more than {self._most} connections")
            pipe.cut()
        else:
            self._pipes[pipe] = _Watched(asyncio.get_running_loop().time())
            self._metrics.sessions.set(len(self._pipes))
            task = asyncio.create_task(self._open(pipe, self._connection), name="open session")
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        return pipe.hub

    async def _open(self, pipe: Pipe, connection: asyncssh.SSHClientConnection) -> None:
        try:
            async with asyncio.timeout(OPEN_SECONDS * patience(self._slow_starts)):
                await open_session(connection, pipe.cluster, self._exited)
        except (OSError, asyncssh.Error) as error:
            pipe.cut()
            if connection is self._connection:
                # A connection that gives no session is of no use; a new one may be.
                reason = "open_timeout" if isinstance(error, TimeoutError) else "open_refused"
                self._slow_starts += reason == "open_timeout"
                self._metrics.cut(reason)
                self._complaints.utter(reason, "sshd started no session: connecting again")
                self._drop()

    def _exited(self, exit_code: int) -> None:
        reason = of_exit(exit_code)
        if reason is not None:
            self._complaints.utter("gate", reason)

    def _finished(self, pipe: Pipe) -> None:
        watched = self._pipes.pop(pipe, None)
        if watched is not None:
            self._count(pipe, watched)
            self._metrics.sessions.set(len(self._pipes))

    def look(self, now: float, *, late: bool) -> None:
        """Count what went through, and cut what is dead. `late`: the last look was long ago."""
        greeting = self._limits.greeting * patience(self._slow_starts)
        limits = self._limits._replace(greeting=greeting)
        for pipe, watched in list(self._pipes.items()):
            self._count(pipe, watched)
            watched.hearing = hearing = listen(
                watched.hearing,
                now=now,
                received=pipe.cluster.received,
                deaf=late or pipe.cluster.paused or not pipe.open,
            )
            verdict = judge(hearing, now=now, last_cut=self._last_cut, limits=limits)
            if hearing.received:
                self._slow_starts = 0
            if verdict is not LinkState.KEEP:
                self._cut(pipe, verdict, "silence" if hearing.received else "no_greeting", now)

    def _cut(self, pipe: Pipe, verdict: LinkState, reason: str, now: float) -> None:
        self._metrics.cut(reason)
        self._last_cut = now
        self._slow_starts += reason == "no_greeting"
        pipe.cut()
        if verdict is LinkState.CUT_CONNECTION:
            self._complaints.utter(reason, "nothing came from the cluster again: connecting again")
            self._drop()
        else:
            self._complaints.utter(reason, "nothing came from the cluster: the hub must dial again")

    def _count(self, pipe: Pipe, watched: _Watched) -> None:
        # Counters lock: added up here and not for each chunk.
        self._metrics.sent.inc(pipe.hub.received - watched.sent)
        self._metrics.received.inc(pipe.cluster.received - watched.received)
        watched.sent, watched.received = pipe.hub.received, pipe.cluster.received
