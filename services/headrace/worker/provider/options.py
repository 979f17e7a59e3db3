"""``external.toml``: what the workers of all external models share, and one of those models."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from headrace.external import folder, keyfile
from headrace.external.model import ExternalModel
from headrace.protocol import names
from headrace.runtime import config
from headrace.runtime.config import ConfigError
from headrace.runtime.nats.bus import BusOptions
from headrace.worker.options import CommonOptions, WorkerLimits


class ExternalOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The file. The environment overrides it like any worker's."""

    models: str = "models.d"
    """The folder of the external models' files, which the edge reads too."""
    cluster: str = "web"
    """What this machine is called where clusters are."""
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    log_level: str = "info"
    bus: BusOptions = BusOptions()
    limits: WorkerLimits = WorkerLimits()


class ExternalWorker(NamedTuple):
    """One external model, ready to be served."""

    worker: CommonOptions
    file: ExternalModel
    key: Path
    """The file with the provider's key."""
    ca_file: str


def load(path: Path | None, slug: str, environ: Mapping[str, str] = os.environ) -> ExternalWorker:
    """The model `slug` of the folder that the file at `path` names. Raises ConfigError.

    A key that can't be used is refused here, where somebody looks.
    """
    options = config.load(path, ExternalOptions, environ, "worker")
    base = path.parent if path is not None else Path()
    models = config.resolve(base, options.models)
    file = folder.load_all(models).get(names.Slug(slug))
    if file is None:
        raise ConfigError(f"{models}: there is no model {slug!r}")
    key = keyfile.place(models, file.engine.key_file, environ)
    _ = keyfile.KeyFile(key, environ).key
    bus = options.bus
    if bus.nkey_file:
        seed = str(config.resolve(base, bus.nkey_file))
        bus = msgspec.structs.replace(bus, nkey_file=seed)
    try:
        cluster = names.slug(options.cluster)
    except ValueError as error:
        raise ConfigError(f"{path}: cluster: {error}") from error
    worker = CommonOptions(
        cluster=cluster,
        model=file.queue,
        name=file.name,
        slots=file.slots,
        lanes=file.lanes,
        drain_seconds=file.drain_seconds,
        metrics_port=options.metrics_port,
        log_level=options.log_level,
        bus=bus,
        limits=options.limits,
    )
    ca_file = file.engine.ca_file
    return ExternalWorker(
        worker, file, key, str(config.resolve(models, ca_file)) if ca_file else ""
    )
