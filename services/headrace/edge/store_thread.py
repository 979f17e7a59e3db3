"""A thread of the store's own, so that the event loop never waits for a database."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection

from headrace.gateway.store.database import Database

T = TypeVar("T")


class StoreThread:
    """Does one thing after the other."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction; what it returns. Raises StoreError."""

        def transaction(database: Database) -> T:
            with database.write() as connection:
                return work(connection)

        return await self.do(transaction)

    async def do(self, work: Callable[[Database], T]) -> T:
        """Do `work`; what it returns. Raises what it raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, self._database)

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
