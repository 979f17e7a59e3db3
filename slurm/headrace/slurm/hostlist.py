"""Node lists: ``gpu[1-3,7],login`` and the names that it stands for (scontrol(1), hostlist)."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

MAX_NODES: Final = 4096
"""More than any job of ours has. A list that claims more is refused, not expanded."""

NODE: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62})", re.ASCII)
"""A node's name as we hand it to Slurm."""

_TOKEN: Final = re.compile(r"([^\[\],\s]*)(?:\[([0-9,\-]+)\])?([^\[\],\s]*)", re.ASCII)
_RANGE: Final = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)


def expand(text: str) -> tuple[str, ...]:
    """The names in a node list, in its order. Raises ValueError."""
    names: list[str] = []
    for token in _tokens(text.strip()):
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise ValueError(f"not a node list: {text[:80]!r}")
        before, ranges, after = match.groups()
        if ranges is None:
            names.append(before + after)
            continue
        for number in _numbers(ranges):
            names.append(f"{before}{number}{after}")
            if len(names) > MAX_NODES:
                raise ValueError(f"more than {MAX_NODES} nodes: {text[:80]!r}")
    return tuple(names)


def expand_or_none(text: str) -> tuple[str, ...]:
    """The names in a node list that may be empty, ``(null)`` or unreadable: then none."""
    if text.strip().lower() in {"", "(null)", "n/a", "none", "none assigned"}:
        return ()
    try:
        return expand(text)
    except ValueError:
        return ()


def join(names: Iterable[str]) -> str:
    """Names as a list without brackets: what ``--exclude`` takes. Raises ValueError."""
    listed = list(names)
    for name in listed:
        if NODE.fullmatch(name) is None:
            raise ValueError(f"not a node's name: {name[:80]!r}")
    return ",".join(listed)


def _tokens(text: str) -> Iterator[str]:
    """`text` split at the commas outside of brackets."""
    depth = start = 0
    for index, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            yield text[start:index]
            start = index + 1
    yield text[start:]


def _numbers(ranges: str) -> Iterator[str]:
    for each in ranges.split(","):
        match = _RANGE.fullmatch(each)
        if match is None:
            raise ValueError(f"not a range of nodes: {each[:40]!r}")
        first, last = match[1], match[2] or match[1]
        if not 0 <= int(last) - int(first) < MAX_NODES:
            raise ValueError(f"not a range of nodes: {each[:40]!r}")
        for number in range(int(first), int(last) + 1):
            # gpu[01-10] keeps its leading zeros
            yield str(number).zfill(len(first))
