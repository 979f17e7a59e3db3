"""Statuses as a scaler writes them, for tests of what operators see."""

from headrace.catalogue.status import ModelRow, Status, WorkerRow
from headrace.protocol.plan import Interval, ModelPhase

NOW = 1_800_000_000.0


def status(**changes: object) -> Status:
    """A cluster with one busy, one waking and one failed model."""
    busy = ModelRow(
        model="qwen3-8b",
        name="Qwen/Qwen3-8B",
        phase=ModelPhase.READY,
        waiting=12,
        running=64,
        oldest_wait=34.0,
        desired=2,
        minimum=0,
        maximum=4,
        reason="12 requests wait",
        workers=(
            WorkerRow(
                job=101, phase="ready", node="gpu1", submitted_at=NOW - 4000, ends_at=NOW + 7500,
                started_at=NOW - 3900, ready_at=NOW - 3800, running=64, slots=64,
                tokens_per_second=912.4,
            ),
            WorkerRow(
                job=102, phase="waiting", submitted_at=NOW - 90, expected_start=NOW + 240,
                reason="Resources",
            ),
        ),
    )  # fmt: skip
    waking = ModelRow(
        model="small",
        name="small",
        phase=ModelPhase.LOADING,
        waiting=1,
        desired=1,
        maximum=1,
        reason="1 requests wait",
        ready_in=Interval(40.0, 90.0),
        workers=(
            WorkerRow(job=103, phase="loading", node="gpu2", started_at=NOW - 5, ends_at=NOW + 60),
        ),
    )
    failed = ModelRow(
        model="broken", name="broken", phase=ModelPhase.FAILED, failed="5 jobs in a row died"
    )
    fields: dict[str, object] = {
        "cluster": "alpha",
        "written": NOW - 2,
        "interval": 5.0,
        "pid": 7,
        "queue_at": NOW - 2,
        "slurm_at": NOW - 3,
        "models": (busy, waking, failed),
    }
    return Status(**(fields | changes))  # type: ignore[arg-type]  # a status's own fields
