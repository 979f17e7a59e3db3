"""Which streams may be continued by another worker, and why others may not (ADR 10)."""

from typing import Final

import msgspec
from msgspec import Raw

from headrace.protocol.endpoints import Endpoint
from headrace.protocol.requests import MAX_BODY_BYTES, Partial


class _RequestFields(msgspec.Struct):
    """The fields of a request that decide."""

    n: int | None = None
    best_of: int | None = None
    logprobs: bool | int | None = None
    top_logprobs: int | None = None
    prompt_logprobs: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    use_beam_search: bool | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: Raw = Raw(b"null")
    structured_outputs: Raw = Raw(b"null")
    guided_json: Raw = Raw(b"null")
    guided_regex: Raw = Raw(b"null")
    guided_choice: Raw = Raw(b"null")
    guided_grammar: Raw = Raw(b"null")
    grammar: Raw = Raw(b"null")
    json_schema: Raw = Raw(b"null")
    tool_choice: Raw = Raw(b"null")
    prompt: Raw = Raw(b"null")


class _Format(msgspec.Struct):
    type: str = ""


_asked: Final = msgspec.json.Decoder(_RequestFields)
_format: Final = msgspec.json.Decoder(_Format)
_GUIDES: Final = (
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
    "grammar", "json_schema",
)  # fmt: skip


def why_not(endpoint: Endpoint, body: bytes) -> str:
    """What in a request keeps its stream from being continued; empty where nothing does.

    A continuation is a new request whose prompt ends with what was written. It is the same to the
    model only where nothing else of the first request's state counts.
    """
    try:
        asked = _asked.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return "a request that we do not understand"
    if (asked.n or 1) > 1 or (asked.best_of or 1) > 1:
        return "several choices"
    if asked.logprobs or asked.top_logprobs or asked.prompt_logprobs:
        return "log probabilities"
    if asked.use_beam_search:
        return "beam search"
    if asked.presence_penalty or asked.frequency_penalty:
        return "penalties on what was written"
    if _guided(asked):
        return "guided output"
    if endpoint is Endpoint.COMPLETIONS:
        return _completion(asked)
    return ""


def too_large(body: bytes, partial: Partial) -> bool:
    """Whether a request and what was written are more than a message holds."""
    return len(body) + len(partial.text.encode()) + len(partial.tokens) > MAX_BODY_BYTES


def _guided(asked: _RequestFields) -> bool:
    if any(bytes(getattr(asked, name)) != b"null" for name in _GUIDES):
        return True
    if bytes(asked.tool_choice) not in {b"null", b'"auto"', b'"none"'}:
        return True  # a named tool, or any: its arguments are guided
    try:
        return _format.decode(asked.response_format).type not in {"", "text"}
    except (msgspec.DecodeError, ValueError, RecursionError):
        return bytes(asked.response_format) != b"null"


def _completion(asked: _RequestFields) -> str:
    if asked.echo:
        return "an echo of the prompt"
    if asked.suffix:
        return "a suffix"
    prompt = bytes(asked.prompt)
    # A string, or one list of token ids; a list of anything else is several prompts.
    if prompt.startswith(b"[") and (b'"' in prompt or b"[" in prompt[1:]):
        return "several prompts"
    return ""
