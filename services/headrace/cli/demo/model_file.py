"""The demo's model as a file of the catalogue: asleep until somebody asks, then jobs of Slurm."""

import os
import shlex
import sys
from collections.abc import Mapping
from typing import Final

import msgspec

from headrace.cli.demo import job_guard
from headrace.cli.demo.engines import MODEL, EngineTable
from headrace.cli.demo.workspace import Workspace
from headrace.cli.setup import daemon_conf, values
from headrace.cli.setup.credentials import write_private
from headrace.cli.setup.installation import MODELS
from headrace.cli.setup.site import SiteCluster
from headrace.devcluster.local import LOW
from headrace.runtime import toml

IDLE_SECONDS: Final = 60.0
LEAST_MAX: Final = 2


def install(workspace: Workspace, cluster: SiteCluster, engine: EngineTable, workers: int) -> None:
    """Write the scaler's configuration and the model's file. Raises ValueError for a bad path."""
    values.plain_path(str(workspace.cluster))  # it stands in batch scripts
    # Not what was learned, but what was said and seen in an earlier run.
    for name in ("overrides.json", "status.json"):
        (workspace.state / name).unlink(missing_ok=True)
    entry = job_guard.ENTRY.format(pid=os.getpid(), root=str(workspace.slurm))
    scaler = daemon_conf.scaler(cluster, (sys.executable, "-P", "-c", entry))
    write_private(workspace.cluster / "scaler.toml", scaler)
    text = model_file(workspace, engine, workers, os.environ)
    file = workspace.cluster / MODELS / "demo.toml"
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        # Load times of another engine would mislead.
        for learned in workspace.state.glob("learned-*"):
            learned.unlink()
    write_private(file, text)


def model_file(
    workspace: Workspace, engine: EngineTable, workers: int, environ: Mapping[str, str]
) -> str:
    """The file's text."""
    table = {key: value for key, value in msgspec.to_builtins(engine).items() if key != "env"}
    table["stop_seconds"] = 3.0
    return toml.document(
        "The demo's model. Change it while the demo runs, and see what the scaler makes of it.",
        toml.table(
            "",
            {
                "name": MODEL,
                "description": "A very small model, to see Headrace at work.",
                # Whoever ends the demo does not want to wait for the ends of answers.
                "drain_seconds": 3.0,
            },
        ),
        toml.table("[engine]", table),
        toml.table("[engine.env]", engine.env),
        toml.table(
            "[scale]",
            {
                "min": 0,
                "max": max(LEAST_MAX, workers),
                "idle_seconds": IDLE_SECONDS,
                "load_seconds": 30.0 if engine.kind == "vllm" else 5.0,
            },
        ),
        toml.table(
            "[job]",
            {
                "time": "02:00:00",
                "partitions": (LOW,),
                "gres": "gpu:1",
                "output": f"{workspace.logs}/job-%j.log",
                "prologue": _prologue(workspace, environ),
            },
        ),
    )


def _prologue(workspace: Workspace, environ: Mapping[str, str]) -> list[str]:
    # For the engine's socket, whose path must be short.
    wanted = {"TMPDIR": str(workspace.run)}
    # Jobs get little of our environment, but must find the same Headrace.
    if "PYTHONPATH" in environ:
        wanted["PYTHONPATH"] = environ["PYTHONPATH"]
    return [f"export {name}={shlex.quote(value)}" for name, value in wanted.items()]
