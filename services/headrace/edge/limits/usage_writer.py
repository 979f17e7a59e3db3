"""Accounts: rows of requests that are over, written to the store in batches, off the hot path."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Connection

from headrace.edge.auth.api_keys import KeyRing
from headrace.edge.metrics import EdgeMetrics
from headrace.edge.options import AccountOptions
from headrace.edge.store_thread import StoreThread
from headrace.gateway.store import usage
from headrace.gateway.store.database import Database, StoreError
from headrace.gateway.store.usage import UsageRow
from headrace.protocol.frames import Usage
from headrace.runtime.logging import Logger

WRITE_SECONDS: Final = 1.0
BATCH: Final = 1000
PRUNE_SECONDS: Final = 3600.0

LATE_SECONDS: Final = 15.0
"""A worker that was told to stop says what it has counted within this time, or never."""

MAX_LATE: Final = 10_000


Done = Callable[[UsageRow, bool], UsageRow]
"""With whether the worker has said a word; the row as it is to be written."""


class _Late(NamedTuple):
    row: UsageRow
    until: float
    done: Done


class UsageWriter:
    """Takes rows in, and writes them. At the bound rows are lost, which a metric counts."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        options: AccountOptions,
        *,
        metrics: EdgeMetrics,
        log: Logger,
    ) -> None:
        self._keys = keys
        self._options = options
        self._metrics = metrics
        self._log = log
        self._rows: deque[UsageRow] = deque()
        self._late: dict[str, _Late] = {}
        self._store = StoreThread(database, "accounts")
        self._pruned = 0.0
        self._told = False
        metrics.usage_waiting.set_function(lambda: len(self._rows))

    def add(self, row: UsageRow) -> None:
        """A request is over."""
        if len(self._rows) >= self._options.max_waiting:
            self._metrics.usage_lost.inc()
            if not self._told:
                self._told = True
                self._log.error("usage_lost", limit=self._options.max_waiting)
            return
        self._rows.append(row)

    def expect(self, row: UsageRow, done: Done) -> None:
        """The same of one whose worker was told to stop, and has yet to say what it has counted.

        `done` is called with the row before it is written.
        """
        if len(self._late) >= MAX_LATE:
            self.add(done(row, True))  # nobody will know: the worse is to be assumed
        else:
            self._late[row.request] = _Late(row, time.monotonic() + LATE_SECONDS, done)

    def count(self, request: str, counted: Usage, gpu_seconds: float) -> None:
        """The worker of an expected one has stopped, and has counted. Others are ignored."""
        late = self._late.pop(request, None)
        if late is None:
            return
        row = msgspec.structs.replace(
            late.row,
            prompt_tokens=counted.prompt_tokens,
            completion_tokens=counted.completion_tokens,
            gpu_seconds=gpu_seconds,
        )
        self.add(late.done(row, True))

    async def run(self) -> None:
        """Write, for ever."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> bool:
        """Write what there is; whether it could be."""
        self._give_up(time.monotonic())
        while self._rows or self._keys.used:
            batch = [self._rows[n] for n in range(min(BATCH, len(self._rows)))]
            used, self._keys.used = self._keys.used, {}
            try:
                await self._store.write(partial(self._write, batch, used))
            except StoreError:
                self._keys.used = used | self._keys.used
                self._metrics.usage_failures.inc()
                return False
            for _ in batch:
                self._rows.popleft()
            self._told = False
        return True

    async def close(self) -> None:
        """Write what is left."""
        self._give_up(float("inf"), told=True)  # they may still be at it
        await self.write()
        self._store.close()

    def _give_up(self, now: float, *, told: bool = False) -> None:
        over = [id for id, late in self._late.items() if late.until <= now]
        for id in over:
            late = self._late.pop(id)
            self.add(late.done(late.row, told))

    def _write(self, batch: list[UsageRow], used: dict[str, float], connection: Connection) -> None:
        usage.write(connection, batch)
        usage.used(connection, used)
        now = time.time()
        if now - self._pruned > PRUNE_SECONDS:
            usage.prune(connection, now - self._options.keep_days * usage.DAY)
            self._pruned = now
