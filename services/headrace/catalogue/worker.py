"""What a job's worker gets to know: the ``worker.toml`` made from a model's file."""

import msgspec

from headrace.catalogue.model import ModelFile
from headrace.protocol import names
from headrace.runtime import toml
from headrace.runtime.bus import BusOptions
from headrace.runtime.engine import EngineOptions, Lanes


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is the same for all workers of a cluster. Paths are those of its compute nodes."""

    name: str
    """The cluster's slug."""
    bus: BusOptions
    """The cluster's own nats-server; the seed by its file's path, never itself."""
    log_level: str = "info"

    def __post_init__(self) -> None:
        names.slug(self.name)


def worker_options(model: ModelFile, cluster: Cluster) -> str:
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
