"""The edge's configuration, ``edge.toml``."""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from headrace.edge.auth_options import ProxyOptions, SignInOptions
from headrace.edge.wait_policy import DEFAULT, Keepalive, WaitPolicy, parse
from headrace.gateway.options import StoreOptions
from headrace.gateway.policy.names import key_id
from headrace.protocol.control import WINDOW_BYTES
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.names import Slug, model_name, slug, slug_of
from headrace.protocol.requests import MAX_BODY_BYTES
from headrace.runtime.nats.bus import BusOptions
from headrace.runtime.nats.jetstream import DEDUPE_SECONDS, QueueLimits


class ModelOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A model that clients may ask for by its `name`. The `slug` is made from it if not given."""

    name: str
    slug: str = ""
    endpoints: tuple[Endpoint, ...] = (Endpoint.CHAT, Endpoint.COMPLETIONS)

    def __post_init__(self) -> None:
        model_name(self.name)
        _ = self.queue

    @property
    def queue(self) -> Slug:
        """The slug under which its requests are queued."""
        return slug(self.slug) if self.slug else slug_of(self.name)


class KeyOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An API key: an `id` for logs and accounts, and the digest that ``headrace init`` printed."""

    id: str
    digest: str
    wait: Literal["hold", "fail"] | Annotated[float, Meta(gt=0)] | None = None
    """How long its requests wait, unless they say so themselves (``x-headrace-wait``): ``hold`` up
    to the deadline, ``fail`` not at all while no worker is ready, or a number of seconds. Unset is
    like ``hold``, but does not wait for a model that has failed."""
    keepalive: Keepalive = Keepalive.COMMENT
    """What its streams are sent while they wait: ``comment``, ``chunk`` or ``off``."""

    def __post_init__(self) -> None:
        key_id(self.id)
        _ = self.patience

    @property
    def patience(self) -> WaitPolicy:
        """What `wait` says."""
        return DEFAULT if self.wait is None else parse(str(self.wait))


class CounterOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``[counters]``: where what counts against limits is counted, for several edge processes."""

    url: str = ""
    """``valkey://HOST:PORT/0``, or ``redis://``: exact. Empty: each process counts for itself, and
    tells the others through the store once a second (docs/guides/gateway.md says how exact)."""
    password_file: str = ""
    timeout_seconds: Annotated[float, Meta(gt=0, le=5)] = 0.25
    """After so long without an answer a process counts by itself for a while."""


class AccountOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``[accounts]``: one row per request, without its content, under a pseudonym."""

    keep_days: Annotated[int, Meta(ge=1, le=36500)] = 400
    """Older rows are removed."""
    max_waiting: Annotated[int, Meta(ge=100)] = 50_000
    """Rows that wait for a store that is slow or away; beyond that they are lost, and counted."""


class EdgeOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """All of the edge's options. Durations are in seconds, sizes in bytes."""

    secret_file: str
    """The secret with which API keys are digested."""
    host: str = "127.0.0.1"
    port: int = 8080
    processes: int = 1
    bus: BusOptions = BusOptions()
    queue: QueueLimits = QueueLimits()
    models: tuple[ModelOptions, ...] = ()
    external: str = ""
    """The folder with the files of external models, whose prompts leave the site."""
    keys: tuple[KeyOptions, ...] = ()
    """Keys of the site's own, which no group binds; people's keys are in the store."""
    store: StoreOptions = StoreOptions()
    counters: CounterOptions = CounterOptions()
    accounts: AccountOptions = AccountOptions()
    sign_in: SignInOptions = SignInOptions()
    proxy: ProxyOptions = ProxyOptions()

    max_body_bytes: int = 4 * 1024 * 1024
    body_seconds: float = 30.0
    """A client that takes longer to send its body is cut off."""
    max_live: int = 20_000
    """Requests that one process holds at once. A waiting one costs some 30 KiB."""
    max_buffered_bytes: int = 2 * 1024 * 1024
    """What may wait for one slow reader before it is cut off: more than the window within which its
    worker stops, so that it only matters where the worker does not."""
    slow_reader_seconds: float = 60.0
    """A client that takes nothing for so long, while there is something, is cut off."""
    max_answer_bytes: int = 64 * 1024 * 1024
    """The largest whole (not streamed) answer."""
    deadline_seconds: float = 600.0
    """By then every request has ended; openai's client gives up after as long."""
    hold_seconds: float = 2.0
    """How long a stream's status is held back, so that an early failure has a true status."""
    comment_seconds: float = 5.0
    """How often a waiting stream gets a comment."""
    learn_seconds: float = 10.0
    """For so long after the start a model that is not known may be one that its cluster has yet to
    announce: clients are asked to come again, for a 404 they would take for the last word."""
    worker_silence_seconds: float = 6.0
    """A worker without a heartbeat for so long counts as lost, and its requests go to others. It
    tells of itself every second; if it comes back before another has begun, it goes on."""
    drain_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 1024 <= self.max_body_bytes <= MAX_BODY_BYTES:
            raise ValueError(f"max_body_bytes must be 1024 to {MAX_BODY_BYTES}")
        if self.max_buffered_bytes < WINDOW_BYTES * 3 // 2:
            raise ValueError(f"max_buffered_bytes must be at least {WINDOW_BYTES * 3 // 2}")
        if not 1 <= self.deadline_seconds <= DEDUPE_SECONDS:
            raise ValueError(f"deadline_seconds must be 1 to {DEDUPE_SECONDS:.0f}")
        if (self.sign_in.issuer or self.proxy.addresses) and not self.store.url:
            raise ValueError("sign_in and proxy need a store: [store] url")
        if self.external and not self.store.url:
            raise ValueError("external models need a store, which keeps their budgets: [store] url")
        if not 1 <= self.processes <= 256:
            raise ValueError("processes must be 1 to 256")
        _once(model.name for model in self.models)
        _once(model.queue for model in self.models)
        _once(key.id for key in self.keys)


def _once(names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{name!r} is there {count} times")
