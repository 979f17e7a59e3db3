"""What the store holds, as plain values. A value that can't be is refused when it is made."""

from enum import StrEnum
from typing import Final

import msgspec

from headrace.gateway.policy import names
from headrace.protocol.endpoints import Endpoint

EVERYONE: Final = "everyone"
"""The group that every user is in. In a new store it may use every model of the site's own."""

ALL: Final = "*"
"""In place of a model's name: every model but external ones, which must be named."""


class Source(StrEnum):
    """Who says that somebody is in a group."""

    HAND = "hand"
    """An administrator: it stays until one takes it back."""
    SIGN_IN = "sign-in"
    """The identity provider: as of the last sign-in."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person, or a service that has keys. Times are Unix seconds."""

    name: str
    organisation: str = ""
    disabled: bool = False
    created: float = 0.0
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names.user(self.name)
        names.label(self.organisation)
        for group in self.groups:
            names.group(group)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """People who may use the same models. No `endpoints` are all endpoints."""

    name: str
    models: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    created: float = 0.0

    def __post_init__(self) -> None:
        names.group(self.name)
        for model in self.models:
            names.model(model)


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """An API key. Of the key itself there is only the digest.

    Without `groups` it has those of its owner; with them it has those of them that its owner is in.
    `models` and `endpoints` narrow what these may do; where empty they narrow nothing.
    """

    id: str
    digest: str
    owner: str
    name: str = ""
    groups: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    created: float = 0.0
    expires: float | None = None
    revoked: float | None = None
    last_used: float | None = None
    wait: str = ""
    """``hold``, ``fail`` or a number of seconds; empty is the usual."""
    keepalive: str = ""
    """``comment``, ``chunk`` or ``off``; empty is the usual."""
    admin: bool = False
    """Whether it opens the administration."""
    replaces: str = ""
    """The id of the key that it was made to take the place of."""

    def __post_init__(self) -> None:
        names.key_id(self.id)
        names.user(self.owner)
        names.label(self.name)
        names.wait(self.wait)
        if self.keepalive not in ("", "comment", "chunk", "off"):
            raise ValueError("keepalive is comment, chunk or off")
        for group in self.groups:
            names.group(group)
        for model in self.models:
            names.model(model)

    def lives(self, now: float) -> bool:
        """Whether it opens the door at `now`."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class SubjectKind(StrEnum):
    """What a limit is set on."""

    KEY = "key"
    USER = "user"
    GROUP = "group"
    MODEL = "model"


class Metric(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    """Of prompts and answers, as the engine counts them; charged when a request has ended."""
    COST = "cost"
    """Of external models, in millionths of the site's currency; the most that a request can cost is
    reserved before it begins."""
    CONCURRENCY = "concurrency"
    """Requests that are under way at once, waiting ones included."""
    QUEUED = "queued"
    """Requests that wait for a worker at once."""


class LimitWindow(StrEnum):
    """The time that a limit counts in, aligned to the clock in UTC."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    NOW = "now"
    """Of metrics that count what is there at this moment."""


MOMENTARY: Final = frozenset({Metric.CONCURRENCY, Metric.QUEUED})


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """At most `value` of `metric` in one `window`.

    `model` narrows it to one model; empty, it is for all of them together. `each` says, for a group
    or a model, whether every user has it for themselves, or all have it together.
    """

    kind: SubjectKind
    name: str
    metric: Metric
    window: LimitWindow
    value: int
    model: str = ""
    each: bool = True

    def __post_init__(self) -> None:
        _ADMIT[self.kind](self.name)
        if self.model:
            names.model(self.model)
        if not 0 <= self.value < 1 << 60:
            raise ValueError("a limit is a whole number from 0 on")
        if (self.metric in MOMENTARY) != (self.window is LimitWindow.NOW):
            raise ValueError(f"{self.metric} is not counted per {self.window}")
        if self.kind is SubjectKind.MODEL and self.model:
            raise ValueError("a model's limit is not for another model")


_ADMIT: Final = {
    SubjectKind.KEY: names.key_id,
    SubjectKind.USER: names.user,
    SubjectKind.GROUP: names.group,
    SubjectKind.MODEL: names.model,
}
