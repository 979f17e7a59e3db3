"""What a request for an external model can cost, and what it has cost. No I/O."""

from typing import Final, NamedTuple

import msgspec

from headrace.edge.answer import Answer
from headrace.gateway.quotas import Quota
from headrace.gateway.tally import Name
from headrace.protocol.errors import Code
from headrace.runtime.external.model import ExternalModel

UNBILLED: Final = frozenset(
    (Code.PROVIDER_UNAVAILABLE, Code.PROVIDER_REFUSED, Code.UNPROCESSABLE, Code.INVALID_JSON,
     Code.INVALID_REQUEST, Code.ENDPOINT_NOT_SERVED)
)  # fmt: skip
"""What a worker says only of requests that no provider has worked on."""


class Bill(NamedTuple):
    """A request for an external model: its file, and the most that the request can cost."""

    file: ExternalModel
    most: int


class Spending(msgspec.Struct):
    """What is reserved for one request: as much for each time that it is sent."""

    file: ExternalModel
    quotas: tuple[Quota, ...]
    each: int
    """The most that it can cost once, in millionths."""
    held: list[dict[Name, float]] = []
    """Of each reservation the budgets that it is out of, with their windows' ends."""
    settled: bool = False


def cost(answer: Answer, spending: Spending) -> int:
    """What an answer that is over has cost, in millionths.

    Only a provider's own count at the end is exact. What is broken off may have cost all that was
    reserved, unless it is certain that the provider did not begin.
    """
    if answer.error is not None:
        begun = answer.worker and answer.error.code not in UNBILLED
        return spending.each if begun else 0
    if answer.status >= 400:
        return 0
    usage = answer.usage
    if not usage.prompt_tokens:
        return spending.each
    return spending.file.price.cost(usage.prompt_tokens, usage.completion_tokens)
