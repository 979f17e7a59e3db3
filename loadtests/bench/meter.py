"""Processor time and memory of processes and of all that they start, from /proc (proc(5))."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Usage(msgspec.Struct, frozen=True):
    """What a group of processes has used so far, and what it holds now."""

    cpu_seconds: float
    rss_bytes: int
    processes: int


class Row(NamedTuple):
    """A process as ``/proc/PID/stat`` tells of it. `ticks` include ended children's."""

    pid: int
    parent: int
    ticks: int
    pages: int


def parse(stat: str) -> Row:
    """Read the content of ``/proc/PID/stat``. Raises ValueError, IndexError for anything else."""
    pid, _, rest = stat.partition(" (")
    fields = rest.rpartition(")")[2].split()
    # utime, stime, cutime, cstime
    return Row(int(pid), int(fields[1]), sum(map(int, fields[11:15])), int(fields[21]))


def rows() -> list[Row]:
    """Every process of the machine."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208  # twice as fast as pathlib, with many there
        if name.isdigit():
            try:
                found.append(parse(Path("/proc", name, "stat").read_text(errors="replace")))
            except (OSError, ValueError, IndexError):
                continue  # gone meanwhile
    return found


def grouped(every: Iterable[Row], roots: Mapping[str, int]) -> dict[str, Usage]:
    """What each root and all below it use; what is below another root counts there alone.

    A child's time is its own while it lives and its parent's once it was waited for, so a sum over
    the living loses nothing. One that ends between two looks is in the second one's sum.
    """
    known = {row.pid: row for row in every}
    children = defaultdict(list)
    for row in known.values():
        children[row.parent].append(row.pid)
    others = set(roots.values())
    usages = {}
    for name, root in roots.items():
        below, group = [root], []
        while below:
            pid = below.pop()
            if pid in known:
                group.append(known[pid])
                below += [child for child in children[pid] if child not in others]
        usages[name] = Usage(
            cpu_seconds=sum(row.ticks for row in group) * _TICK,
            rss_bytes=sum(row.pages for row in group) * _PAGE,
            processes=len(group),
        )
    return usages


def look(roots: Mapping[str, int]) -> dict[str, Usage]:
    """What each group uses right now."""
    return grouped(rows(), roots)


def spent(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, float]:
    """Seconds of processor time between two looks, by group."""
    return {
        name: usage.cpu_seconds - before[name].cpu_seconds
        for name, usage in after.items()
        if name in before
    }


def rss(pid: int) -> int:
    """Bytes of memory of one process, exactly: ``stat`` may lag behind by some pages a thread."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"the kernel does not tell the memory of {pid}")
