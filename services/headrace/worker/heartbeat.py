"""What this worker tells about itself: once a second and at every change of phase."""

from typing import Final

from headrace.protocol import codec, subjects
from headrace.protocol.requests import VERSION
from headrace.protocol.state import WorkerPhase, WorkerState
from headrace.runtime.nats.bus import BusError
from headrace.worker.queue.attempt import AttemptContext

BEAT_SECONDS: Final = 1.0


class Heartbeat:
    """Publishes the worker's state."""

    def __init__(self, shared: AttemptContext) -> None:
        self._shared = shared
        options = shared.options
        self._subject = subjects.state(options.cluster_slug, options.model_slug, shared.worker)
        self.phase = WorkerPhase.LOADING
        self._reason = ""
        self.running = 0

    def enter(self, phase: WorkerPhase, reason: str = "") -> None:
        """Change the phase, and tell."""
        self._shared.log.info("phase", phase=phase, previous=self.phase)
        self.phase = phase
        self._reason = reason
        self.beat()

    def beat(self) -> None:
        """Tell the state as it is."""
        if not self._shared.bus.connected:
            return  # stale news would be worth nothing
        options = self._shared.options
        state = WorkerState(
            version=VERSION,
            cluster=options.cluster,
            model=options.model,
            worker=self._shared.worker,
            phase=self.phase,
            slots=options.slots,
            running=self.running,
            reason=self._reason,
            ends_at=options.ends_at,
            job=options.job,
            node=options.node,
            tokens=self._shared.metrics.generated,
        )
        try:
            self._shared.bus.send(self._subject, codec.encode(state))
        except BusError:
            return  # the next one follows in a second
