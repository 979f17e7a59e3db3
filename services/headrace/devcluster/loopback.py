"""Ports of the loopback for what development starts: none is given to two processes.

Between the choice of a port and the start of its server others choose as well: demos, Slurms and
tests, side by side. So to choose a port is to claim it, by the name of an abstract socket (see
unix(7)), which the kernel frees with the process.
"""

import os
import random
import socket
from collections.abc import Container
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"

KEPT: Final = 250
"""So many claims a process keeps, the newest: the servers of older ones have long been started."""

_FIRST: Final = 10_000
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_EPHEMERAL_FIRST: Final = 32_768
_TRIES: Final = 1000

_claims: dict[int, int] = {}
"""The descriptor of each claimed port's mark: it is open until the process ends."""


def is_free(port: int) -> bool:
    """Whether something could listen on `port` of the loopback right now."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier run that linger do no harm.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def claim(port: int) -> bool:
    """Whether `port` is free and this process's: nobody else who asks here will be given it."""
    if port not in _claims:
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0headrace-port-{port}")
        except OSError:
            mark.close()
            return False
        _claims[port] = mark.detach()
        if len(_claims) > KEPT:
            os.close(_claims.pop(next(iter(_claims))))
    return is_free(port)


def free_port(used: Container[int] = ()) -> int:
    """A port that is free, claimed, and not among `used`. Raises OSError where there is none."""
    # Below the kernel's own range: a client that dials a dead server of this machine can be given
    # the very port that it dials, talks to itself then, and the server can't come back to it.
    below = _ephemeral_first()
    for _ in range(_TRIES):
        port = random.randrange(_FIRST, below)  # noqa: S311  # no secret
        if port not in used and port not in _claims and claim(port):
            return port
    raise OSError(f"no free port between {_FIRST} and {below}")


def free_ports(count: int) -> list[int]:
    """So many different ones."""
    return [free_port() for _ in range(count)]


def _ephemeral_first() -> int:
    try:
        first = int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        first = _EPHEMERAL_FIRST
    return first if first > _FIRST + _TRIES else 65_536
