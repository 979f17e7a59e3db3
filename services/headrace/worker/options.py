"""Every option of the worker and its default, in one place."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from headrace.protocol import names
from headrace.protocol.control import WINDOW_BYTES
from headrace.protocol.names import Slug
from headrace.runtime import config, engine
from headrace.runtime.config import ConfigError
from headrace.runtime.engine import EngineOptions, Lanes, Seconds, Slots
from headrace.runtime.nats.bus import BusOptions

Bytes = Annotated[int, Meta(gt=0)]

_MIB: Final = 1024 * 1024


class WorkerLimits(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The bounds of everything that the worker keeps in memory."""

    batch_seconds: Annotated[float, Meta(ge=0)] = 0.005
    """Events that follow each other faster than this travel in one frame; less where few streams
    are under way."""
    event_bytes: Bytes = 4 * _MIB
    """The largest single event of a stream; a frame must stay below the bus's 8 MiB."""
    answer_bytes: Bytes = 64 * _MIB
    """The largest answer that is not streamed; it is held whole to count its tokens."""
    replay_bytes: Bytes = 4 * _MIB
    """Frames kept per request to be sent again; older ones are let go. A stream sends no more than
    a window (1 MiB and what was read at once) before the edge has said that it came, so nothing of
    it is lost while a link is down; at 50 tokens/s it comes to about that in 60 s. Must be two
    windows. What is longer is a whole answer, which the edge would have made anew."""
    replay_total_bytes: Bytes = 256 * _MIB
    """Frames kept of all requests together: 50 streams at 50 tokens/s and 300 bytes a token make
    45 MiB in a minute without a link, and full windows of 190 streams fit in."""
    replay_seconds: Seconds = 60.0
    """How long frames are kept after the end: a link may be down for so long."""


class CommonOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The options of every worker, whatever its engine."""

    cluster: str
    """The slug of the cluster that this worker runs on."""
    model: str
    """The model's slug, part of subjects."""
    name: str = ""
    """The model's free-form name, as clients write it; the slug by default."""
    slots: Slots = 8
    """Requests in work at once."""
    lanes: Lanes = Lanes()
    ends_at: Annotated[float, Meta(ge=0)] = 0.0
    """When the walltime ends, in Unix seconds; by default what Slurm says, or never."""
    job: Annotated[int, Meta(ge=0)] = 0
    """The Slurm job that it runs in, 0 if none; by default what Slurm says."""
    node: str = ""
    """The node's name; by default what Slurm says."""
    drain_seconds: Annotated[float, Meta(ge=0)] = 30.0
    """How long requests in work may go on when the worker is asked to end."""
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Where metrics are served on the loopback; 0 turns them off."""
    log_level: str = "info"
    bus: BusOptions = BusOptions()
    limits: WorkerLimits = WorkerLimits()

    @property
    def cluster_slug(self) -> Slug:
        """The cluster's slug, admitted."""
        return names.slug(self.cluster)

    @property
    def model_slug(self) -> Slug:
        """The model's slug, admitted."""
        return names.slug(self.model)

    @property
    def model_name(self) -> str:
        """The name that the engine serves."""
        return self.name or self.model


class WorkerOptions(CommonOptions, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The options of ``headrace-worker``."""

    engine: EngineOptions


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> WorkerOptions:
    """The worker's options, or ConfigError with what is wrong with them."""
    options = config.load(path, WorkerOptions, environ, "worker")
    if path is not None and options.bus.nkey_file:
        seed = str(config.resolve(path.parent, options.bus.nkey_file))
        bus = msgspec.structs.replace(options.bus, nkey_file=seed)
        options = msgspec.structs.replace(options, bus=bus)
    try:
        check(options)
        options = msgspec.structs.replace(
            options,
            ends_at=options.ends_at or float(environ.get("SLURM_JOB_END_TIME") or 0),
            job=options.job or int(environ.get("SLURM_JOB_ID") or 0),
            node=options.node or environ.get("SLURMD_NODENAME", ""),
        )
    except ValueError as error:
        raise ConfigError(f"{path or 'configuration'}: {error}") from error
    return options


def check(options: WorkerOptions) -> None:
    """Raise ValueError for what the types alone don't refuse."""
    names.slug(options.cluster)
    names.slug(options.model)
    engine.check(options.engine)
    if options.limits.replay_bytes < 2 * WINDOW_BYTES:
        raise ValueError(f"limits.replay_bytes: must be at least {2 * WINDOW_BYTES}")
