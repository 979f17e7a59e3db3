"""The JSON of Slurm's commands, whose forms changed from one version to the next.

A number may be 60, or null, or (23.11 on) {"set": true, "infinite": false, "number": 60}; a state
one word or a list; a nodes' list a string or an object. What is read is what all of them mean.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from headrace.slurm import times
from headrace.slurm.output import CommandOutput

_SHOWN: Final = 300


class JsonReply(msgspec.Struct, frozen=True):
    """The list that a command tells, or why it can't be relied on."""

    items: tuple[Any, ...] = ()
    problem: str = ""


def read(output: CommandOutput, key: str) -> JsonReply:
    """The list under `key`. Slurm's own list of errors makes an answer unreliable."""
    if output.problem:
        return JsonReply(problem=output.problem)
    if not output.stdout.strip():
        return JsonReply(problem="the answer is empty")
    try:
        # Not msgspec: some versions write `Infinity`, which is no JSON.
        decoded = json.loads(output.stdout)
    except (ValueError, RecursionError) as error:
        return JsonReply(problem=f"not JSON: {str(error)[:_SHOWN]}")
    if not isinstance(decoded, dict) or not isinstance(decoded.get(key), list):
        return JsonReply(problem=f"JSON without a list of {key}")
    errors = decoded.get("errors")
    if errors:
        first = errors[0] if isinstance(errors, list) else errors
        told = first.get("error") or first.get("description") if isinstance(first, dict) else first
        return JsonReply(problem=" ".join(str(told).split())[:_SHOWN])
    items = tuple(decoded[key])
    return JsonReply(items, "" if items else output.complaint)


def number(value: Any) -> float | None:
    """A number in any of its forms; infinity where it has no bound, None where it is not set."""
    if isinstance(value, Mapping):
        if value.get("infinite") is True:
            return times.UNLIMITED
        if value.get("set") is False:
            return None
        value = value.get("number")
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return None if math.isnan(value) else value
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:20])
    return None


def moment(value: Any) -> float | None:
    """A point in time in Unix seconds; Slurm writes 0 for none."""
    found = number(value)
    return None if found is None else times.moment(found)


def text(value: Any) -> str:
    """A string, also one that lies in an object."""
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("job", "list", "name", "value") if key in value), "")
    if isinstance(value, list):
        return ",".join(text(each) for each in value)
    return value if isinstance(value, str) else ""


def words(value: Any) -> list[str]:
    """A word or a list of words."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return words(value.get("current"))
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    raise ValueError("neither a word nor words")
