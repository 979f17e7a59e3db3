"""The worker's metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)


class WorkerMetrics:
    """Every metric of the worker, declared in `registry`."""

    def __init__(self, registry: CollectorRegistry, *, cluster: str, model: str) -> None:
        labels = ("cluster", "model")
        self._who = (cluster, model)

        def gauge(name: str, text: str) -> Gauge:
            made = Gauge(f"headrace_worker_{name}", text, labels, registry=registry)
            return made.labels(*self._who)

        def counter(name: str, text: str) -> Counter:
            made = Counter(f"headrace_worker_{name}_total", text, labels, registry=registry)
            return made.labels(*self._who)

        self._requests = Counter(
            "headrace_worker_requests_total",
            "Attempts at requests, by how they ended",
            (*labels, "outcome"),
            registry=registry,
        )
        self.running = gauge("running", "Requests that the engine works on")
        self.held = gauge("held", "Requests taken that wait for a slot")
        self.slots = gauge("slots", "Requests that the engine may work on at once")
        self.engine_up = gauge("engine_up", "Whether the engine serves")
        self.load_seconds = gauge("load_seconds", "How long the engine took to load")
        self.replay_bytes = gauge("replay_bytes", "Frames kept to be sent again")
        self.prompt_tokens = counter("prompt_tokens", "Tokens of prompts, as counted by the engine")
        self.completion_tokens = counter(
            "completion_tokens", "Tokens of answers, as counted by the engine"
        )
        self.frames = counter("frames", "Frames published")
        self.frame_bytes = counter("frame_bytes", "Bytes of frames published")
        self.unsent = counter("frames_unsent", "Frames that the bus did not take, left to resume")
        self.resumed = counter("resumed_frames", "Frames sent again")
        self.refused = counter("refused_messages", "Messages from the queue that could not be read")
        self.given_back = counter("given_back", "Requests given back to the queue unbegun")
        self.first_byte = Histogram(
            "headrace_worker_first_byte_seconds",
            "From taking a request to the engine's first byte",
            labels,
            buckets=SECONDS,
            registry=registry,
        ).labels(*self._who)

    @property
    def generated(self) -> int:
        """Tokens of all answers so far."""
        (family,) = self.completion_tokens.collect()
        return int(family.samples[0].value)

    def ended(self, outcome: str) -> None:
        """Count one attempt that has ended."""
        self._requests.labels(*self._who, outcome).inc()
