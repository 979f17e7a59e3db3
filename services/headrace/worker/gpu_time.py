"""Which share of the time of its GPUs a request takes: of equal parts among those that run at once.

The integral of GPUs over running requests is kept; what it grew by while a request ran is its
share. All shares of a worker sum up to the time in which anything ran.
"""

import re
from collections.abc import Mapping
from typing import Final

_LIST: Final = re.compile(r"[0-9]+")


class GpuTime:
    """The meter of one worker with `gpus` GPUs. Times are of one clock, in seconds."""

    def __init__(self, gpus: float) -> None:
        self._gpus = gpus
        self._running = 0
        self._grown = 0.0
        self._at = 0.0

    def begin(self, now: float) -> float:
        """A request starts to run; what to give to `end`."""
        self._grow(now)
        self._running += 1
        return self._grown

    def end(self, begun: float, now: float) -> float:
        """A request ends: its GPU-seconds."""
        self._grow(now)
        self._running = max(0, self._running - 1)
        return self._grown - begun

    def so_far(self, begun: float, now: float) -> float:
        """The GPU-seconds of a request that runs still."""
        self._grow(now)
        return self._grown - begun

    def _grow(self, now: float) -> None:
        if self._running:
            self._grown += (now - self._at) * self._gpus / self._running
        self._at = now


def gpus(environ: Mapping[str, str]) -> float:
    """How many GPUs a worker has, by what Slurm and CUDA say in its environment; 0 if none.

    On several nodes Slurm tells the number of one of them, and nodes of a job are alike.
    """
    nodes = int(_number(environ.get("SLURM_JOB_NUM_NODES", "")) or 1)
    on_node = environ.get("SLURM_GPUS_ON_NODE", "")
    if _number(on_node):
        return float(on_node) * nodes
    visible = [each for each in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each.strip()]
    if visible in (["-1"], ["NoDevFiles"]):
        visible = []
    return float(len(visible) * nodes)


def _number(text: str) -> str:
    return text if _LIST.fullmatch(text) else ""
