"""The endpoints a request may name. An envelope carries one of these, never a path."""

from enum import StrEnum
from typing import Final

Headers = list[tuple[bytes, bytes]]
"""HTTP headers in order, names in lower case, as ASGI has them."""


class Endpoint(StrEnum):
    """What an engine is asked for."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"


ENGINE_PATHS: Final[dict[Endpoint, str]] = {
    Endpoint.CHAT: "/v1/chat/completions",
    Endpoint.COMPLETIONS: "/v1/completions",
    Endpoint.EMBEDDINGS: "/v1/embeddings",
}
"""Where an OpenAI-compatible engine serves each endpoint."""
