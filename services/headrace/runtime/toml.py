"""Just enough TOML to write our own files; Python's standard library only reads it."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

Value = str | int | float | bool | Sequence[str]
Table = Mapping[str, "Value"]

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def string(text: str) -> str:
    """`text` as a basic string. Raises ValueError for what UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("text that is not Unicode") from error
    # JSON's escapes are TOML's too, but TOML wants DEL escaped as well.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def value(of: Value) -> str:
    """`of` as it stands behind the equals sign."""
    if isinstance(of, bool):
        return "true" if of else "false"
    if isinstance(of, str):
        return string(of)
    if isinstance(of, int | float):
        return repr(of)
    return f"[{', '.join(string(item) for item in of)}]"


def key_(text: str) -> str:
    """`text` as it stands before the equals sign."""
    return text if _BARE.fullmatch(text) else string(text)


def table(header: str, entries: Table) -> str:
    """A table with its `header` (``[bus]``, ``[[keys]]`` or nothing)."""
    lines = [header] if header else []
    lines += [f"{key_(key)} = {value(entry)}" for key, entry in entries.items()]
    return "".join(f"{line}\n" for line in lines)


def document(comment: str, *tables: str) -> str:
    """A file: `comment` above, then the tables with an empty line between them."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    return "\n".join([head, *tables])
