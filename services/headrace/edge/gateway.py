"""All that the edge does with the store, put together: started, kept running, ended in order."""

import asyncio
from collections.abc import Callable

from headrace.edge.auth.api_keys import KeyRing
from headrace.edge.auth.oidc import OidcProvider
from headrace.edge.auth.snapshot_poller import SnapshotPoller
from headrace.edge.auth.trusted_proxy import TrustedProxy
from headrace.edge.limits.admission import AdmissionControl
from headrace.edge.limits.budget import BudgetReserver
from headrace.edge.limits.counters import Counters
from headrace.edge.limits.lease_sync import LeaseSync
from headrace.edge.limits.limiter import Limiter
from headrace.edge.limits.usage_writer import UsageWriter
from headrace.edge.limits.valkey import ValkeyCounters
from headrace.edge.metrics import EdgeMetrics
from headrace.edge.options import EdgeOptions
from headrace.edge.portal.admin_executor import AdminExecutor
from headrace.edge.portal.app import AccountPages
from headrace.gateway.store.database import Database
from headrace.runtime.logging import Logger


class Gateway:
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
        self.backroom: AdminExecutor | None = None
        self._follower: SnapshotPoller | None = None
        self._tally: LeaseSync | None = None
        self._accounts: UsageWriter | None = None
        self._purse: BudgetReserver | None = None
        if self.database is not None:
            self._follower = follower = SnapshotPoller(
                self.database, keys, options.store, metrics=metrics, log=log
            )
            self.backroom = AdminExecutor(self.database, keys, follower)
            self._tally = LeaseSync(edge, self.database, counters, others, metrics=metrics)
            self._accounts = UsageWriter(
                self.database, keys, options.accounts, metrics=metrics, log=log
            )
            self._purse = BudgetReserver(self.database, metrics=metrics, log=log)
        exact = None if self._valkey is not None else self._tally
        self._limiter = Limiter(counters, shared=self._valkey, exact=exact)
        self.turnstile = AdmissionControl(keys, self._limiter, self._accounts, self._purse)

    def account(self, options: EdgeOptions, log: Logger) -> AccountPages | None:
        """The key page, where people can come to it."""
        if self.backroom is None or not (options.sign_in.issuer or options.proxy.addresses):
            return None
        sign_in, proxy = options.sign_in, TrustedProxy(options.proxy, options.proxy.secret_file)
        if options.proxy.addresses:
            self._keys.proxy = proxy
            self._keys.introduce = self.backroom.introduce
        provider = OidcProvider(sign_in, sign_in.client_secret_file) if sign_in.issuer else None
        return AccountPages(self.backroom, sign_in, provider, proxy, log)

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
