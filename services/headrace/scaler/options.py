"""The scaler's configuration, ``scaler.toml``. Paths in it are relative to it."""

from typing import Annotated

import msgspec
from msgspec import Meta

from headrace.protocol import names
from headrace.runtime.nats.bus import BusOptions

Seconds = Annotated[float, Meta(gt=0, le=3600)]


class ScalerOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """All of the scaler's options. Durations are in seconds."""

    cluster: str
    installation: str = "headrace"
    """Several Headraces may share one account: each only knows jobs of its own name."""
    models: str = "models.d"
    """The folder of the catalogue."""
    state: str = "state"
    """A folder for what is learned, the workers' configurations, the lease and ``status.json``.
    Compute nodes must see it at the same path."""
    bus: BusOptions = BusOptions()
    worker_bus: BusOptions = BusOptions()
    """Where workers find NATS, and their seed; paths as compute nodes see them."""
    worker_command: Annotated[tuple[str, ...], Meta(min_length=1)] = ("headrace-worker",)
    interval_seconds: Seconds = 5.0
    """Between two rounds; a request for a model without a worker begins one at once."""
    stale_seconds: Seconds = 30.0
    """Knowledge older than this is not acted on."""
    submissions_per_round: Annotated[int, Meta(ge=1, le=100)] = 4
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """On 127.0.0.1; 0 turns metrics off."""

    def __post_init__(self) -> None:
        names.slug(self.cluster)
        names.slug(self.installation)
