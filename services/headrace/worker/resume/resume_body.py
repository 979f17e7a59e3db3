"""What to ask an engine for the rest of an answer. Pure functions from body to body.

A body is the client's object, its values not decoded but where they must change.
"""

from typing import Any, Final

import msgspec
from msgspec import Raw

from headrace.protocol.resumable import value

Fields = dict[str, Raw]

LIMITS: Final = ("max_completion_tokens", "max_tokens", "n_predict")
"""How many tokens an answer may have: the first one that is there holds."""

VLLM_COMPLETION_TOKENS: Final = 16
"""OpenAI's default for completions, and vLLM's. A chat may fill the context."""

# Of chats only; `logprobs` is another thing in completions.
_CHAT: Final = frozenset(
    ("messages", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call",
     "chat_template", "chat_template_kwargs", "add_generation_prompt", "continue_final_message",
     "add_special_tokens", "documents", "reasoning_effort", "include_reasoning", "echo", "logprobs",
     "top_logprobs", "max_completion_tokens", "media_io_kwargs", "mm_processor_kwargs", "metadata",
     "store", "modalities", "audio", "prediction")
)  # fmt: skip
_RENDERING: Final = (
    "tools", "chat_template", "add_generation_prompt", "continue_final_message",
    "add_special_tokens",
)  # fmt: skip
_TEMPLATE: Final = ("documents", "reasoning_effort")
_NOT_PROBED: Final = frozenset(
    (*LIMITS, "min_tokens", "stream_options", "return_token_ids", "n", "best_of")
)


def raw(given: Any) -> Raw:
    """The JSON of a value."""
    return Raw(msgspec.json.encode(given))


def spend(fields: Fields, count: int) -> Fields | None:
    """The same with all limits less `count` tokens; None where nothing is left."""
    less = dict(fields)
    holds = True
    for name in LIMITS:
        limit = value(fields[name]) if name in fields else None
        if isinstance(limit, int) and limit >= 0:  # llama.cpp takes -1 for no limit
            if holds and limit <= count:
                return None
            holds = False
            less[name] = raw(max(1, limit - count))
    if isinstance(least := value(fields.get("min_tokens", Raw(b"null"))), int):
        less["min_tokens"] = raw(max(0, least - count))
    return less


def limited(fields: Fields) -> bool:
    """Whether the body limits its tokens."""
    return any(name in fields and bytes(fields[name]) != b"null" for name in LIMITS)


def probe(fields: Fields) -> Fields:
    """A request for one token, whose answer tells the number of the prompt's."""
    asked = {name: each for name, each in fields.items() if name not in _NOT_PROBED}
    return asked | {"max_tokens": raw(1), "stream": raw(False)}


def after_text(fields: Fields, text: str, *, prefills: bool) -> Fields | None:
    """Go on after the text; None where the prompt is none that text can be added to.

    With `prefills` the engine takes a last message of the assistant's for the beginning of the
    answer, whatever the body says.
    """
    less = {name: each for name, each in fields.items() if name != "return_token_ids"}
    if "messages" not in fields:
        prompt = value(fields["prompt"]) if "prompt" in fields else None
        if isinstance(prompt, list) and len(prompt) == 1:
            (prompt,) = prompt
        return less | {"prompt": raw(prompt + text)} if isinstance(prompt, str) else None
    messages = value(fields["messages"])
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return None
    last = messages[-1]
    begun = prefills or value(fields.get("continue_final_message", Raw(b"null"))) is True
    if begun and last.get("role") == "assistant":
        if not isinstance(last.get("content"), str):
            return None
        messages[-1] = last | {"content": last["content"] + text}
    else:
        messages.append({"role": "assistant", "content": text})
    return less | {
        "messages": raw(messages),
        "continue_final_message": raw(True),
        "add_generation_prompt": raw(False),
    }


def takes_ids(fields: Fields) -> bool:
    """Whether the prompt and the answer are no more than their ids.

    Images have ids that say nothing; and what may be a tool call must go through the parser of
    chats.
    """
    tools = value(fields["tools"]) if "tools" in fields else None
    if tools and value(fields.get("tool_choice", Raw(b"null"))) != "none":
        return False
    messages = value(fields["messages"]) if "messages" in fields else []
    return isinstance(messages, list) and all(map(_only_text, messages))


def _only_text(message: Any) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    return not isinstance(content, list) or all(
        isinstance(part, dict) and part.get("type") == "text" for part in content
    )


def prompt_ids(fields: Fields) -> list[int] | None:
    """The prompt of a completion, where it is given as ids."""
    prompt = value(fields["prompt"]) if "prompt" in fields else None
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], list):
        (prompt,) = prompt
    if isinstance(prompt, list) and all(isinstance(each, int) for each in prompt):
        return prompt
    return None


def rendering(fields: Fields) -> Fields:
    """The body for vLLM's ``/tokenize`` that renders the prompt as the request itself would."""
    asked = {"model": fields["model"]}
    if "messages" not in fields:
        prompt = value(fields["prompt"]) if "prompt" in fields else None
        asked["prompt"] = raw(prompt[0] if isinstance(prompt, list) and prompt else prompt)
        if "add_special_tokens" in fields:
            asked["add_special_tokens"] = fields["add_special_tokens"]
        return asked
    asked["messages"] = fields["messages"]
    asked |= {name: fields[name] for name in _RENDERING if name in fields}
    kwargs = value(fields.get("chat_template_kwargs", Raw(b"null"))) or {}
    for name in _TEMPLATE:
        if name in fields and (given := value(fields[name])) is not None:
            kwargs.setdefault(name, given)
            if name == "reasoning_effort":
                kwargs.setdefault("enable_thinking", given != "none")
    if kwargs:
        asked["chat_template_kwargs"] = raw(kwargs)
    return asked


def after_ids(fields: Fields, ids: list[int], *, context: int) -> Fields:
    """A completion that goes on after `ids`, with the same sampling as the chat or completion.

    `context` is the number of tokens that the model takes in all.
    """
    if "messages" not in fields:
        return fields | {"prompt": raw(ids), "return_token_ids": raw(True)}
    asked = {name: each for name, each in fields.items() if name not in _CHAT}
    if not limited(fields):
        asked["max_tokens"] = raw(context - len(ids))
    elif bytes(fields.get("max_completion_tokens", Raw(b"null"))) != b"null":
        asked["max_tokens"] = fields["max_completion_tokens"]
    return asked | {"prompt": raw(ids), "return_token_ids": raw(True)}
