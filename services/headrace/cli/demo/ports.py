"""Free ports of the loopback for the demo's processes, the same at every start if they are free."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from headrace.cli.setup.credentials import write_private
from headrace.devcluster import loopback

NAMES: Final = ("hub", "hub_monitor", "leaf", "gate", "ssh", "link", "bridge_metrics")


def choose(
    remembered: Path, taken: Iterable[int] = (), names: Sequence[str] = NAMES
) -> dict[str, int]:
    """A free port for each of `names`, none of them in `taken`, also kept in `remembered`."""
    chosen = {}
    used = set(taken)
    before = _read(remembered)
    for name in names:
        port = before.get(name, 0)
        if not port or port in used or not loopback.claim(port):
            port = loopback.free_port(used)
        chosen[name] = port
        used.add(port)
    write_private(remembered, json.dumps(before | chosen, indent=2) + "\n")
    return chosen


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): int(port) for name, port in found.items() if 0 < int(port) < 65_536}
    except (OSError, ValueError, AttributeError, TypeError, OverflowError):
        return {}
