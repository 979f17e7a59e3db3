"""Follows the store: looks for changes once a second, and loads what an edge goes by.

The only thing that reads of keys and limits from the database; requests never do.
"""

import asyncio
import time
from typing import Final

from headrace.edge.auth.api_keys import KeyRing
from headrace.edge.metrics import EdgeMetrics
from headrace.edge.store_thread import StoreThread
from headrace.gateway.options import StoreOptions
from headrace.gateway.policy.snapshot import Snapshot
from headrace.gateway.store import migrations, queries
from headrace.gateway.store.database import Database, StoreError
from headrace.runtime.logging import Logger

FIRST_SECONDS: Final = 10.0
"""At the start the store is waited for so long; then the edge goes on without its keys."""


class SnapshotPoller:
    """Keeps a key ring at the store's last change."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        options: StoreOptions,
        *,
        metrics: EdgeMetrics,
        log: Logger,
    ) -> None:
        self._keys = keys
        self._options = options
        self._log = log
        self._metrics = metrics
        self._store = StoreThread(database, "store")
        self._seen = 0.0
        """When the store last answered, in Unix seconds."""
        self._told = ""
        self._checked = False
        keys.believed_until = 0.0
        metrics.store_age.set_function(lambda: time.time() - self._seen if self._seen else -1.0)

    async def start(self) -> None:
        """Load what there is, for as long as a start may take."""
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                while not await self.look():  # noqa: ASYNC110  # the store calls nobody
                    await asyncio.sleep(self._options.poll_seconds)
        except TimeoutError:
            self._log.error("store_not_there")

    async def run(self) -> None:
        """Look for changes, for ever."""
        while True:
            await asyncio.sleep(self._options.poll_seconds)
            await self.look()

    async def look(self) -> bool:
        """Take in what has changed; whether the store could be asked."""
        began = time.time()
        try:
            new = await self._store.do(self._load)
        except StoreError as error:
            if self._told != str(error):
                self._told = str(error)
                self._log.error("store_failed", reason=self._told)
            return False
        self._told = ""
        self._seen = began
        self._keys.believed_until = began + self._options.stale_seconds
        if new is not None:
            self._keys.replace(new)
            self._metrics.store_revision.set(new.revision)
            self._log.info("store_loaded", version=str(new.revision))
        return True

    def close(self) -> None:
        """Let go of the thread."""
        self._store.close()

    def _load(self, database: Database) -> Snapshot | None:
        if not self._checked:
            migrations.ready(database)
            self._checked = True
        with database.read() as connection:
            if queries.revision(connection) == self._keys.snapshot.revision:
                return None
            records = queries.everything(connection)
        return Snapshot(records, self._keys.secret, self._keys.static)
