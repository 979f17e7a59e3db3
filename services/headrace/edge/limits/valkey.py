"""Counters in Valkey or Redis for all edge processes: exact, by one script per request."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any, Final, cast

from headrace.edge.metrics import EdgeMetrics
from headrace.edge.options import CounterOptions
from headrace.gateway.policy import windows
from headrace.gateway.policy.quotas import Quota
from headrace.gateway.policy.records import MOMENTARY, Metric
from headrace.runtime.logging import Logger

PREFIX: Final = "headrace:"

AWAY_SECONDS: Final = 2.0
"""After a failure each process counts for itself for so long before it asks again."""

GRACE_SECONDS: Final = 60.0
"""Counters stay for so long after their windows' ends: clocks differ."""

ENTER: Final = """
-- KEYS: one per quota. ARGV: id, now, then per quota: kind (w window, t tokens, m moment), limit,
-- expiry (of a window: Unix seconds; of a moment: seconds from now).
local id, now, used, over = ARGV[1], tonumber(ARGV[2]), {}, false
for i, key in ipairs(KEYS) do
  local kind, limit = ARGV[3 * i], tonumber(ARGV[3 * i + 1])
  if kind == 'm' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    used[i] = redis.call('ZCARD', key)
  else
    used[i] = tonumber(redis.call('GET', key) or '0')
  end
  over = over or used[i] >= limit
end
if not over then
  for i, key in ipairs(KEYS) do
    local kind, expiry = ARGV[3 * i], ARGV[3 * i + 2]
    if kind == 'm' then
      redis.call('ZADD', key, now + tonumber(expiry), id)
      redis.call('EXPIRE', key, expiry)
    elseif kind == 'w' then
      redis.call('INCR', key)
      redis.call('EXPIREAT', key, expiry)
    end
  end
end
return used
"""


class ValkeyCounters:
    """The `Shared` of a `Limiter`."""

    def __init__(
        self, options: CounterOptions, deadline_seconds: float, metrics: EdgeMetrics, log: Logger
    ) -> None:
        # Imported late: an extra of its own.
        import valkey.asyncio

        url = options.url.replace("redis://", "valkey://", 1).replace("rediss://", "valkeys://", 1)
        self._client: Any = valkey.asyncio.Valkey.from_url(
            url,
            password=options.password_file or None,  # by now the password itself
            socket_timeout=options.timeout_seconds,
            socket_connect_timeout=options.timeout_seconds,
            max_connections=64,
        )
        self._enter: Any = self._client.register_script(ENTER)
        self._timeout = options.timeout_seconds
        self._moment = int(deadline_seconds + GRACE_SECONDS)
        self._metrics = metrics
        self._log = log
        self._away_until = 0.0

    async def enter(self, id: str, quotas: Sequence[Quota], now: float) -> list[int] | None:
        """As `Shared` says."""
        arguments: list[object] = [id, now]
        for quota in quotas:
            if quota.metric in MOMENTARY:
                arguments += ["m", quota.value, self._moment]
            else:
                kind = "t" if quota.metric is Metric.TOKENS else "w"
                arguments += [kind, quota.value, _expiry(quota, now)]
        keys = [_key(quota, now) for quota in quotas]
        used = await self._ask(lambda: self._enter(keys=keys, args=arguments))
        return None if used is None else [int(each) for each in used]

    async def charge(self, quotas: Sequence[Quota], tokens: int, now: float) -> None:
        """As `Shared` says."""
        pipe = self._client.pipeline(transaction=False)
        for quota in quotas:
            pipe.incrby(_key(quota, now), tokens)
            pipe.expireat(_key(quota, now), _expiry(quota, now))
        await self._ask(pipe.execute)

    async def leave(self, id: str, quotas: Sequence[Quota]) -> None:
        """As `Shared` says. What is not heard ends by itself some time after the deadline."""
        pipe = self._client.pipeline(transaction=False)
        for quota in quotas:
            pipe.zrem(_key(quota, 0.0), id)
        await self._ask(pipe.execute)

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()

    async def _ask(self, question: Any) -> Any:
        from valkey.exceptions import ValkeyError

        if time.monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(2 * self._timeout):
                return await cast("Awaitable[Any]", question())
        except (ValkeyError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + AWAY_SECONDS
            self._metrics.tally_failures.inc()
            self._log.error("counters_failed", error=type(error).__name__)
            return None


def _key(quota: Quota, now: float) -> str:
    return f"{PREFIX}{quota.counter}:{windows.begin(quota.window, now)}"


def _expiry(quota: Quota, now: float) -> int:
    return int(windows.end(quota.window, now) + GRACE_SECONDS)
