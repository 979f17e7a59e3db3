"""A model's job: the ``worker.toml`` that its worker gets, and the batch script that starts it."""

import re
from typing import Final

import msgspec

from headrace.catalogue.model import ModelFile
from headrace.protocol import names
from headrace.runtime import toml
from headrace.runtime.engine import EngineOptions, Lanes
from headrace.runtime.nats.bus import BusOptions
from headrace.slurm import script
from headrace.slurm.record import Record

_FOLDER: Final = re.compile(r"(/[A-Za-z0-9_.+@-]+)+", re.ASCII)


class ClusterOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is the same for all workers of a cluster. Paths are those of its compute nodes."""

    name: str
    """The cluster's slug."""
    bus: BusOptions
    """The cluster's own nats-server; the seed by its file's path, never itself."""
    configs: str
    """The folder of the workers' configurations, which compute nodes can read."""
    command: tuple[str, ...] = ("headrace-worker",)
    """The worker's argv, as a job's PATH or container knows it."""
    installation: str = "headrace"
    """Which Headrace: two may share an account."""
    log_level: str = "info"

    def __post_init__(self) -> None:
        names.slug(self.name)
        names.slug(self.installation)
        if _FOLDER.fullmatch(self.configs) is None:
            raise ValueError("configs: an absolute path of letters, digits and /_.+@- alone")
        if not self.command or not all(self.command):
            raise ValueError("command: an argv without empty words")


def config_path(model: ModelFile, cluster: ClusterOptions) -> str:
    """Where the ``worker.toml`` of this generation of `model` belongs.

    Jobs that wait in Slurm read the file that they were submitted with, whatever came after.
    """
    return f"{cluster.configs}/{model.queue}-{model.generation}.toml"


def batch_script(
    model: ModelFile, cluster: ClusterOptions, submission: str, avoid: tuple[str, ...] = ()
) -> str:
    """The script of one job; `submission` is its id, unique. Raises ValueError.

    `avoid` are nodes to exclude besides those of the model's file.
    """
    job = Record(cluster.installation, cluster.name, model.queue, model.generation, submission)
    command = (*cluster.command, "--config", config_path(model, cluster))
    exclude = tuple(dict.fromkeys((*model.job.exclude, *avoid)))
    return script.render(msgspec.structs.replace(model.job, exclude=exclude), command, job)


def worker_options(model: ModelFile, cluster: ClusterOptions) -> str:
    """The text of ``worker.toml``. It holds no secret, and may be shown to anybody."""
    return toml.document(
        f"Made from the catalogue's {model.queue}: changes belong there.",
        toml.table(
            "",
            {
                "cluster": cluster.name,
                "model": model.queue,
                "name": model.name,
                "slots": model.slots,
                "drain_seconds": model.drain_seconds,
                "log_level": cluster.log_level,
            },
        ),
        *_table("bus", _said(cluster.bus, BusOptions())),
        *_table("lanes", _said(model.lanes, Lanes())),
        *_table("engine", _said(model.engine, EngineOptions(model.engine.kind), "kind")),
        *_table("engine.env", model.engine.env),
    )


def _table(name: str, entries: toml.Table) -> tuple[str, ...]:
    return (toml.table(f"[{name}]", entries),) if entries else ()


def _said(options: msgspec.Struct, default: msgspec.Struct, *always: str) -> toml.Table:
    """The fields that differ from the default, so that the worker's own defaults hold there."""
    said = msgspec.to_builtins(options)
    usual = msgspec.to_builtins(default)
    return {
        key: value
        for key, value in said.items()
        if (key in always or value != usual[key]) and not isinstance(value, dict)
    }
