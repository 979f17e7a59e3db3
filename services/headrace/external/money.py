"""What a request costs, in millionths of a currency, rounded up. Pure functions of plain values.

A price per million tokens is a price in millionths per token: no factor stands between the two.
"""

import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

MICRO: Final = 1_000_000
"""Millionths in one unit of a currency."""

Amount = Annotated[float, Meta(gt=0, le=1e9)]
PerMillion = Annotated[float, Meta(ge=0, le=1e6)]


class Price(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[price]``: what a million tokens cost."""

    currency: Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")] = "EUR"
    prompt: PerMillion
    completion: PerMillion = 0.0

    def __post_init__(self) -> None:
        if not self.prompt and not self.completion:
            raise ValueError("prompt: a model that costs nothing has no budget; say its price")

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """In millionths, never less than it is."""
        exact = self.prompt * prompt_tokens + self.completion * completion_tokens
        return math.ceil(round(exact, 6))  # 0.1 + 0.2 must not become one more


def micro(amount: float) -> int:
    """An amount of a currency in millionths."""
    return round(amount * MICRO)


def shown(amount: int, currency: str = "") -> str:
    """Millionths for people: ``0.0125 EUR``."""
    whole = f"{amount / MICRO:.6f}".rstrip("0").rstrip(".")
    return f"{whole} {currency}".rstrip()
