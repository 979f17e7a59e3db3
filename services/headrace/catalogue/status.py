"""What the scaler shows operators: one file, written whole after each round.

``headrace top`` and ``headrace jobs`` read it. It holds no prompt, no user and no secret.
"""

import os
from pathlib import Path

import msgspec

from headrace.protocol.plan import Interval, ModelPhase


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a model. Times are Unix seconds, 0 where there is none."""

    job: int
    phase: str
    node: str = ""
    submitted_at: float = 0.0
    expected_start: float = 0.0
    started_at: float = 0.0
    ready_at: float = 0.0
    ends_at: float = 0.0
    running: int = 0
    slots: int = 0
    tokens_per_second: float = 0.0
    reason: str = ""


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model."""

    model: str
    name: str
    phase: ModelPhase
    waiting: int = 0
    running: int = 0
    oldest_wait: float = 0.0
    desired: int = 0
    minimum: int = 0
    maximum: int = 0
    reason: str = ""
    blocked: str = ""
    failed: str = ""
    ready_in: Interval | None = None
    workers: tuple[WorkerRow, ...] = ()


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    cluster: str
    written: float
    interval: float
    pid: int
    queue_at: float
    slurm_at: float
    problems: tuple[str, ...] = ()
    """What keeps the scaler from acting: in sentences."""
    models: tuple[ModelRow, ...] = ()


def write(path: Path, status: msgspec.Struct) -> None:
    """Replace the file at once, so that no reader sees half of it. Raises OSError."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(status))
    new.replace(path)


def read(path: Path) -> Status:
    """The file's content. Raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode(path.read_bytes(), type=Status)
