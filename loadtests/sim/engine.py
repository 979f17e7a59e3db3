"""The simulated engine as a whole: what its connections share."""

from typing import Protocol

from loadtests.sim import bodies
from loadtests.sim.batch import Batch
from loadtests.sim.options import Options


class Closable(Protocol):
    """A connection, as far as the engine is concerned."""

    def close(self) -> None:
        """Hang up."""


class Engine:
    """A model, once it is loaded, and its batch."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.loaded = options.load_seconds <= 0
        self.connections: set[Closable] = set()
        self.batch = Batch(
            options.slots, options.delay_ms / 1000, options.coalesce, options.die_after_tokens
        )

    def metrics(self) -> bytes:
        """The page of metrics."""
        batch = self.batch
        return bodies.metrics(self.options.model, batch.running, batch.waiting, batch.generated)
