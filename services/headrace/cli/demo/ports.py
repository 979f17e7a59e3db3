"""Free ports of the loopback for the demo's processes, the same at every start if they are free."""

import json
import random
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from headrace.cli.credentials import write_private

NAMES: Final = ("hub", "hub_monitor", "leaf", "gate", "ssh", "link", "bridge_metrics")

_FIRST: Final = 15_000
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES: Final = 1000


def is_free(port: int) -> bool:
    """Whether something could listen on `port` of the loopback right now."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier run that linger do no harm.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose(
    remembered: Path, taken: Iterable[int] = (), names: Sequence[str] = NAMES
) -> dict[str, int]:
    """A free port for each of `names`, none of them in `taken`, also kept in `remembered`."""
    chosen = {}
    used = set(taken)
    before = _read(remembered)
    for name in names:
        port = before.get(name, 0)
        if not port or port in used or not is_free(port):
            port = _any_free(used)
        chosen[name] = port
        used.add(port)
    write_private(remembered, json.dumps(before | chosen, indent=2) + "\n")
    return chosen


def _any_free(used: set[int]) -> int:
    # Below the kernel's own range: a client that dials a dead server of this machine can be given
    # the very port that it dials, talks to itself then, and the server can't come back to it.
    below = _ephemeral_first()
    for _ in range(_TRIES):
        port = random.randrange(_FIRST, below)  # noqa: S311  # no secret
        if port not in used and is_free(port):
            return port
    raise OSError(f"no free port between {_FIRST} and {below}")


def _ephemeral_first() -> int:
    try:
        first = int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        first = 32_768
    return first if first > _FIRST + len(NAMES) * 100 else 65_536


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): int(port) for name, port in found.items() if 0 < int(port) < 65_536}
    except (OSError, ValueError, AttributeError, TypeError, OverflowError):
        return {}
