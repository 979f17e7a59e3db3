"""Which answers can be continued without a seam, by what their requests ask for. No I/O."""

from typing import Any, Final

import msgspec
from msgspec import Raw

NEUTRAL: Final[dict[str, tuple[object, ...]]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (),
    "response_format": ({"type": "text"},),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "grammar": ("",),
    "json_schema": (),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "use_beam_search": (False,),
    "echo": (False,),
    "suffix": ("",),
    "truncate_prompt_tokens": (),
}
"""What prevents it, and the values besides null that don't. A repetition penalty counts the prompt,
too, so it is the same for a continuation."""

# The ids of these are the client's business, or run ahead of the text.
_NO_IDS: Final[dict[str, tuple[object, ...]]] = {"return_token_ids": (False,), "stop": ("", [])}


def obstacle(fields: dict[str, Raw]) -> str | None:
    """The field because of which an answer to this request can't be continued, if there is one."""
    for name, neutral in NEUTRAL.items():
        if name in fields and not _is(fields[name], neutral):
            return name
    if several(fields.get("prompt")):
        return "prompt"
    return None


def may_tell_ids(fields: dict[str, Raw]) -> bool:
    """Whether to ask for the token ids of an answer to this request."""
    return obstacle(fields) is None and all(
        _is(fields[name], neutral) for name, neutral in _NO_IDS.items() if name in fields
    )


def several(prompt: Raw | None) -> bool:
    """Whether a completion has more than one prompt: each has an answer of its own."""
    if prompt is None or memoryview(prompt)[0] != ord("["):
        return False
    given = value(prompt)
    return given is None or (len(given) > 1 and not isinstance(given[0], int))


def value(raw: Raw) -> Any:
    """The JSON value, None for what can't be read: Raw is cut out without a look at its text."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _is(raw: Raw, neutral: tuple[object, ...]) -> bool:
    if bytes(raw) == b"null":
        return True
    given = value(raw)
    return any(
        given == each and isinstance(given, bool) == isinstance(each, bool) for each in neutral
    )
