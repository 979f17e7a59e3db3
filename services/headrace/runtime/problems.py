"""What is wrong with a file, as file, line and reason, so that it can be put right at once."""

import re
import tomllib
from typing import Final, NoReturn

import msgspec

from headrace.runtime import lines

MAX_REASON: Final = 500

_AT: Final = re.compile(r" - at `(?:key in )?\$(?P<path>[^`]*)`$")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\.\.\.\]")
_FIELD: Final = re.compile(r"unknown field `(?P<name>.*)`", re.DOTALL)
_TOML_LINE: Final = re.compile(r" \(at line (?P<line>\d+), column (?P<column>\d+)\)$")
_NAMED: Final = re.compile(r"(?P<name>[a-z_]+(?:\.[a-z_]+)*): ")


class Problem(msgspec.Struct, frozen=True):
    """Why a file was refused. `line` counts from 1; 0 is the whole file."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.reason}"


class FileRefusedError(Exception):
    """A text that describes no model: at `line` (0: as a whole), for `reason`."""

    def __init__(self, line: int, reason: str) -> None:
        shown = "".join(char if char.isprintable() else "�" for char in reason)
        super().__init__(shown)
        self.line = line
        self.reason = shown[:MAX_REASON]


def parse(text: str) -> dict[str, object]:
    """The tables of a TOML text. Raises FileRefusedError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _TOML_LINE.search(str(error))
        line = int(found["line"]) if found else 1 + text.rstrip().count("\n")
        reason = _TOML_LINE.sub("", str(error)).removesuffix(" (at end of document)")
        raise FileRefusedError(line, f"not valid TOML: {reason}") from None
    except (RecursionError, ValueError):
        # A ValueError of a date that is none, or of a number with too many digits.
        raise FileRefusedError(
            0, "not valid TOML: a value is too deep, too long or no value"
        ) from None


def refuse(text: str, error: msgspec.ValidationError) -> NoReturn:
    """Raise FileRefusedError with the line of what msgspec refused."""
    told = str(error)
    found = _AT.search(told)
    path: lines.Path = ()
    if found is not None:
        steps = _STEP.finditer(found["path"])
        path = tuple(int(step[2]) if step[2] else step[1] for step in steps if step[1] or step[2])
    reason = _AT.sub("", told)
    known = lines.lines_of(text)
    # Where the message itself says which key it means, that key's line is the better one.
    field = _FIELD.search(reason)
    named = _NAMED.match(reason)
    deeper = (*path, field["name"]) if field else path
    if named:
        deeper = (*path, *named["name"].split("."))
        if path and deeper[len(path)] == path[-1]:
            deeper = path + deeper[len(path) + 1 :]  # it names its own table as well
    shown = found["path"].lstrip(".") if found else ""
    raise FileRefusedError(lines.find(known, deeper), f"{shown}: {reason}" if shown else reason)
