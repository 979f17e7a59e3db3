"""All that the edge does with the store, put together: started, kept running, ended in order."""

import asyncio
from collections.abc import Callable

from headrace.edge.auth.api_keys import KeyRing
from headrace.edge.auth.oidc import Provider
from headrace.edge.auth.snapshot_poller import Follower
from headrace.edge.auth.trusted_proxy import Proxy
from headrace.edge.limits.admission import Turnstile
from headrace.edge.limits.budget import Purse
from headrace.edge.limits.counters import Counters
from headrace.edge.limits.lease_sync import Tally
from headrace.edge.limits.limiter import Limiter
from headrace.edge.limits.usage_writer import Accounts
from headrace.edge.limits.valkey import ValkeyCounters
from headrace.edge.metrics import EdgeMetrics
from headrace.edge.options import EdgeOptions
from headrace.edge.portal.admin_executor import Backroom
from headrace.edge.portal.app import Account
from headrace.gateway.store.database import Database
from headrace.runtime.logging import Logger


class Gatehouse:
    """The store's side of one edge process; without a store there is only the turnstile."""

    def __init__(
        self,
        edge: str,
        keys: KeyRing,
        options: EdgeOptions,
        others: Callable[[], int],
        *,
        metrics: EdgeMetrics,
        log: Logger,
    ) -> None:
        self._keys = keys
        self.database = Database(options.store.url) if options.store.url else None
        counters = Counters()
        self._valkey = (
            ValkeyCounters(options.counters, options.deadline_seconds, metrics, log)
            if options.counters.url
            else None
        )
        self.backroom: Backroom | None = None
        self._follower: Follower | None = None
        self._tally: Tally | None = None
        self._accounts: Accounts | None = None
        self._purse: Purse | None = None
        if self.database is not None:
            self._follower = follower = Follower(
                self.database, keys, options.store, metrics=metrics, log=log
            )
            self.backroom = Backroom(self.database, keys, follower)
            self._tally = Tally(edge, self.database, counters, others, metrics=metrics)
            self._accounts = Accounts(
                self.database, keys, options.accounts, metrics=metrics, log=log
            )
            self._purse = Purse(self.database, metrics=metrics, log=log)
        exact = None if self._valkey is not None else self._tally
        self._limiter = Limiter(counters, shared=self._valkey, exact=exact)
        self.turnstile = Turnstile(keys, self._limiter, self._accounts, self._purse)

    def account(self, options: EdgeOptions, log: Logger) -> Account | None:
        """The key page, where people can come to it."""
        if self.backroom is None or not (options.sign_in.issuer or options.proxy.addresses):
            return None
        sign_in, proxy = options.sign_in, Proxy(options.proxy, options.proxy.secret_file)
        if options.proxy.addresses:
            self._keys.proxy = proxy
            self._keys.introduce = self.backroom.introduce
        provider = Provider(sign_in, sign_in.client_secret_file) if sign_in.issuer else None
        return Account(self.backroom, sign_in, provider, proxy, log)

    async def start(self) -> None:
        """Know the keys and the counters before the first request."""
        if self._follower is not None and self._tally is not None:
            await self._follower.start()
            await self._tally.sync()

    async def run(self) -> None:
        """Follow, sync and write, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for each in (self._follower, self._tally, self._accounts, self._purse):
                if each is not None:
                    tasks.create_task(each.run(), name=type(each).__name__.lower())

    async def close(self) -> None:
        """Write what is left. To be called when `run` has ended and all requests are over."""
        await self._limiter.settle()
        if self._accounts is not None:
            await self._accounts.close()
        if self._purse is not None:
            await self._purse.close()
        if self._tally is not None:
            await self._tally.close()
        if self._follower is not None:
            self._follower.close()
        if self.backroom is not None:
            self.backroom.close()
        if self._valkey is not None:
            await self._valkey.close()
        if self.database is not None:
            self.database.close()
