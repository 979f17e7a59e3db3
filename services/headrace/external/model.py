"""One external model as its file in the web machine's ``models.d/`` describes it."""

from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from headrace.external.money import Amount, Price
from headrace.external.provider import KINDS, ProviderKind, ProviderOptions
from headrace.protocol.endpoints import Endpoint
from headrace.runtime import problems
from headrace.runtime.engine import Slots
from headrace.runtime.modelfile import CommonModel, DrainSeconds, Endpoints

OFFERED: Final = (Endpoint.CHAT, Endpoint.EMBEDDINGS)
"""Completions are no provider's any more, and a prompt of theirs could not be preceded by ours."""

USER_SHARE: Final = 10
"""Where nothing is said one user may spend a tenth of what all may."""

Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class SystemMessages(StrEnum):
    """What becomes of a client's own system and developer messages."""

    KEEP = "keep"
    """They come after ours."""
    DROP = "drop"


class RequestOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[request]``: what is made of each request before it leaves."""

    max_output_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096
    """More than that no answer may have, and so much is reserved unless a client asks for less."""
    limit_field: Annotated[str, Meta(pattern=r"\Amax(_completion)?_tokens\Z")] = ""
    """How the provider calls that limit; ``max_completion_tokens`` by default for OpenAI and
    Azure, ``max_tokens`` for Anthropic."""
    system_prompt: Annotated[str, Meta(max_length=32_000)] = ""
    """Put before everything that a client says."""
    system_messages: SystemMessages = SystemMessages.KEEP
    overhead_tokens: Annotated[int, Meta(ge=0, le=100_000)] = 1024
    """Reserved for what a provider adds to a prompt: its template, and its own words on tools."""


class Budget(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[budget]``: what all requests together, and those of one user, may cost."""

    per_day: Amount | None = None
    per_month: Amount | None = None
    user_per_day: Amount | None = None
    user_per_month: Amount | None = None

    def __post_init__(self) -> None:
        if self.per_day is None and self.per_month is None:
            raise ValueError("per_day: missing, and per_month too: an external model needs a bound")


class RequestLimits(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[limits]``: of each user. Strict where nothing is said."""

    user_requests_per_minute: Count = 20
    user_concurrency: Count = 4


class ExternalModel(CommonModel, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What clients see of it, who serves it, what it may cost."""

    endpoints: Endpoints = (Endpoint.CHAT,)
    slots: Slots = 16
    """Requests under way at the provider at once."""
    drain_seconds: DrainSeconds = 60.0
    engine: ProviderOptions
    price: Price
    budget: Budget
    request: RequestOptions = RequestOptions()
    limits: RequestLimits = RequestLimits()

    def __post_init__(self) -> None:
        super().__post_init__()
        offered = OFFERED if self.engine.kind is not ProviderKind.ANTHROPIC else (Endpoint.CHAT,)
        for endpoint in self.endpoints:
            if endpoint not in offered:
                raise ValueError(f"endpoints: {self.engine.kind} is not asked for {endpoint}")
        if Endpoint.CHAT in self.endpoints and not self.price.completion:
            raise ValueError("price.completion: missing; a chat's answer has a price")

    @property
    def limit_field(self) -> str:
        """How the provider calls the limit of an answer."""
        usual = (
            "max_tokens" if self.engine.kind is ProviderKind.ANTHROPIC else "max_completion_tokens"
        )
        return self.request.limit_field or usual


def is_external(table: dict[str, Any]) -> bool:
    """Whether a file's tables are of an external model: by the kind of its engine."""
    engine = table.get("engine")
    kind = engine.get("kind") if isinstance(engine, dict) else None
    return isinstance(kind, str) and kind in KINDS


def read(text: str) -> ExternalModel:
    """The model that a file's text describes. Raises FileRefusedError with line and reason."""
    table = problems.parse(text)
    if not is_external(table):
        known = ", ".join(sorted(KINDS))
        raise problems.FileRefusedError(
            0, f"engine.kind: not of an external model, which are {known}"
        )
    try:
        return msgspec.convert(table, ExternalModel)
    except msgspec.ValidationError as error:
        problems.refuse(text, error)
