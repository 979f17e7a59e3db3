"""The client's request made one for a provider: only what is on the list leaves. Pure functions."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, NoReturn

import msgspec
from msgspec import UNSET, Raw, UnsetType

from headrace.external.cost_bound import output_limit
from headrace.external.model import ExternalModel, SystemMessages
from headrace.external.provider import ProviderKind
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code, HeadraceError
from headrace.runtime.jsonobject import parse
from headrace.worker.resume.request_body import stream_options

CHAT: Final = frozenset(
    ("temperature", "top_p", "stop", "seed", "frequency_penalty", "presence_penalty",
     "response_format", "tool_choice", "parallel_tool_calls", "reasoning_effort", "logit_bias",
     "logprobs", "top_logprobs")
)  # fmt: skip
"""Carried as they are. What is not here names its user (`user`, `metadata`), is kept there
(`store`), or costs more than tokens (`service_tier`, `web_search_options`, `prediction`, audio)."""

EMBEDDINGS: Final = frozenset(("input", "dimensions", "encoding_format"))

INSTRUCTIONS: Final = frozenset(("system", "developer"))
ROLES: Final = frozenset(("system", "developer", "user", "assistant", "tool"))

_encoder: Final = msgspec.json.Encoder()


class _Part(msgspec.Struct, omit_defaults=True):
    type: str
    text: str | UnsetType = UNSET
    refusal: str | UnsetType = UNSET


class _Called(msgspec.Struct):
    name: str
    arguments: str = ""


class _Call(msgspec.Struct):
    id: str
    function: _Called
    type: str = "function"


class _Message(msgspec.Struct, omit_defaults=True):
    """A message, and of it what may leave: no `name`, which may be a person's."""

    role: str
    content: str | list[_Part] | UnsetType | None = UNSET
    tool_calls: list[_Call] | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET
    refusal: str | UnsetType | None = UNSET


class _Function(msgspec.Struct, omit_defaults=True):
    name: str
    description: str | UnsetType = UNSET
    parameters: Raw | UnsetType = UNSET
    strict: bool | UnsetType | None = UNSET


class _Tool(msgspec.Struct):
    type: str
    function: _Function


_messages: Final = msgspec.json.Decoder(list[_Message])
_tools: Final = msgspec.json.Decoder(list[_Tool] | None)


class ProviderBody(NamedTuple):
    """What the provider gets."""

    data: bytes
    wants_usage: bool
    """Whether the client itself asked for the usage of its stream."""


def rewrite(model: ExternalModel, endpoint: Endpoint, body: bytes, *, stream: bool) -> ProviderBody:
    """The provider's body. Raises ``unprocessable_request``, ``invalid_json``,
    ``endpoint_not_served``."""
    if endpoint not in model.endpoints:
        raise HeadraceError(Code.ENDPOINT_NOT_SERVED, f"This model does not serve {endpoint}.")
    fields = parse(body)
    azure = model.engine.kind is ProviderKind.AZURE  # where the address names the model
    made: dict[str, Any] = {} if azure else {"model": model.engine.model}
    if endpoint is Endpoint.EMBEDDINGS:
        made |= _kept(fields, EMBEDDINGS)
        return ProviderBody(_encoder.encode(made), wants_usage=False)
    made["messages"] = list(messages(model, fields.get("messages", Raw(b"null"))))
    made |= _kept(fields, CHAT)
    tools = _read(_tools, fields.get("tools", Raw(b"null")), "tools") or []
    if any(tool.type != "function" for tool in tools):
        refuse("tools", "Only functions can be tools of this model.")
    if tools:
        made["tools"] = tools
    else:  # a choice without tools is refused by providers
        made.pop("tool_choice", None)
        made.pop("parallel_tool_calls", None)
    made[model.limit_field] = output_limit(fields, model.request.max_output_tokens)
    made["n"] = 1
    if not stream:
        return ProviderBody(_encoder.encode(made), wants_usage=False)
    options = stream_options(fields.get("stream_options")) or {}
    made |= {"stream": True, "stream_options": {"include_usage": True}}
    return ProviderBody(_encoder.encode(made), bytes(options.get("include_usage", b"")) == b"true")


def messages(model: ExternalModel, given: Raw) -> Iterator[_Message]:
    """Ours first, then the client's: its own instructions, too, unless they are to be dropped."""
    if model.request.system_prompt:
        yield _Message("system", model.request.system_prompt)
    drops = model.request.system_messages is SystemMessages.DROP
    for message in _read(_messages, given, "messages"):
        if message.role not in ROLES:
            refuse("messages", f"A message of the role {message.role[:40]!r} is not known here.")
        if message.role in INSTRUCTIONS and drops:
            continue
        if isinstance(message.content, list):
            _check(message.content)
        yield message


def refuse(field: str, why: str) -> NoReturn:
    """Raise what tells a client that its request can't leave as it is."""
    raise HeadraceError(Code.UNPROCESSABLE, why, param=field)


def _check(parts: Iterable[_Part]) -> None:
    for part in parts:
        if part.type not in ("text", "refusal"):
            # Nobody could say beforehand what an image behind an address costs.
            refuse("messages", "This model is sent text only.")


def _kept(fields: dict[str, Raw], names: frozenset[str]) -> dict[str, Raw]:
    return {name: raw for name, raw in fields.items() if name in names}


def _read(decoder: "msgspec.json.Decoder[Any]", raw: Raw, field: str) -> Any:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        # msgspec's text names fields and types; the place in the client's list is not worth it.
        raise HeadraceError(
            Code.UNPROCESSABLE, f"`{field}` is not as this model takes it.", param=field
        ) from None
