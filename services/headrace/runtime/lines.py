"""Where in a TOML file a key is: Python's parser gives values, and forgets their lines."""

import re
from collections.abc import Iterator
from typing import Final

Path = tuple[str | int, ...]
"""The way to a value: keys of tables, numbers of an array's items."""

_STRING: Final = (
    r'"""(?:\\.|[^\\])*?"""(?!")'
    r"|'''.*?'''(?!')"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
)
_TOKEN: Final = re.compile(
    rf"(?P<string>{_STRING})|(?P<comment>#[^\n]*)|(?P<end>\n)|(?P<mark>[][{{}}=.])"
    r"|(?P<word>[^][{}=.#\s\"']+)|[^\S\n]+|.",
    re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_ESCAPED: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


def lines_of(text: str) -> dict[Path, int]:
    """The line, from 1, of every table and key of a TOML text that has been parsed before.

    What an inline table holds has no line of its own: ask for the key before it (`find`).
    """
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for line, tokens in _statements(text):
        if tokens[0] == "[":
            array = tokens[1:2] == ["["]
            table = _resolve(_keys(tokens), counts, array=array)
            path = table
        else:
            path = table + _keys(tokens[: tokens.index("=")] if "=" in tokens else tokens)
        for length in range(1, len(path) + 1):
            found.setdefault(path[:length], line)
    return found


def find(lines: dict[Path, int], path: Path) -> int:
    """The line of `path`, or of what is nearest around it; 0 where that is the whole file."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 0


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    """The first line and the tokens of every header and every key with its value."""
    line, begun, depth = 1, 0, 0
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if match["mark"] or match["string"] or match["word"]:
            begun = begun or line
            tokens.append(token)
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token, 0)
        line += token.count("\n")
        if match["end"] and depth <= 0 and tokens:
            yield begun, tokens
            begun, depth, tokens = 0, 0, []
    if tokens:
        yield begun, tokens


def _keys(tokens: list[str]) -> Path:
    return tuple(_unquoted(token) for token in tokens if token not in ("[", "]", "."))


def _resolve(path: Path, counts: dict[Path, int], *, array: bool) -> Path:
    """The header's path, with the numbers of the items of arrays that it goes through."""
    resolved: Path = ()
    for place, key in enumerate(path):
        resolved += (key,)
        if array and place == len(path) - 1:
            counts[resolved] = counts.get(resolved, -1) + 1
        if resolved in counts:
            resolved += (counts[resolved],)
    return resolved


def _unquoted(token: str) -> str:
    if token[:1] == "'":
        return token[1:-1]
    if token[:1] != '"':
        return token

    def char(match: re.Match[str]) -> str:
        code = match[1] or match[2]
        return chr(int(code, 16)) if code else _ESCAPED.get(match[3], match[3])

    return _ESCAPE.sub(char, token[1:-1])
