"""Why an engine died, in a sentence that an operator understands."""

import signal
from collections.abc import Iterable
from typing import Final

from headrace.worker.engine.reaper import EXIT_SIGNAL

# What to look for in an engine's log, most telling first, and what to say.
KNOWN: Final = (
    ("CUDA out of memory", "the GPU ran out of memory; use a smaller context or more GPUs"),
    ("OutOfMemoryError", "the GPU ran out of memory; use a smaller context or more GPUs"),
    ("No available memory for the cache", "the GPU has no memory left for the context; shorten it"),
    ("maximum number of tokens that can be stored", "the context is longer than its memory"),
    ("MemoryError", "this node ran out of memory"),
    ("Cannot allocate memory", "this node ran out of memory"),
    ("CUDA driver version is insufficient", "the node's GPU driver is too old"),
    ("No CUDA GPUs are available", "there is no GPU here; does the job ask for one?"),
    ("NCCL error", "the GPUs could not reach each other"),
    ("CUDA error", "the GPU failed"),
    ("No space left on device", "a disk is full"),
    ("Disk quota exceeded", "a disk quota is used up"),
    ("No module named", "engine.python is an interpreter that lacks the engine"),
    ("unrecognized arguments", "the engine does not know one of engine.args"),
    ("Repo id must be", "engine.model names no model that is here"),
    ("Can't load the configuration", "engine.model names no model that is here"),
    ("does not appear to have a file named", "engine.model is not a folder with a whole model"),
    ("failed to load model", "engine.model is not a model file that llama.cpp can read"),
    ("cannot start", "the engine's program cannot be started"),
)  # fmt: skip


def known(lines: Iterable[str]) -> str:
    """The first reason of `KNOWN` that `lines` tell, or an empty string."""
    text = "\n".join(lines)
    return next((reason for sign, reason in KNOWN if sign in text), "")


def ending(exit_code: int) -> str:
    """How a process ended, in words."""
    if exit_code > EXIT_SIGNAL:
        try:
            name = signal.Signals(exit_code - EXIT_SIGNAL).name
        except ValueError:
            return f"exit code {exit_code}"
        if name == "SIGKILL":
            return "killed by SIGKILL, as the kernel does where memory runs out"
        return f"ended by {name}"
    return f"exit code {exit_code}"


def sentence(stage: str, exit_code: int, reason: str) -> str:
    """``The engine died while loading (exit code 1): …``."""
    why = f": {reason}" if reason else ""
    return f"the engine died {stage} ({ending(exit_code)}){why}"
