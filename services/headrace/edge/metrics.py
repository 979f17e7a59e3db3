"""The edge's metrics. Labels are models and outcomes, never a user or a key."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from headrace.edge.dispatch.request import LiveRequest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class EdgeMetrics:
    """All of them, on the `registry` passed in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "headrace_edge_requests", "Requests by model and how they ended.",
            ["model", "outcome"], registry=registry,
        )  # fmt: skip
        self.tokens = Counter(
            "headrace_edge_tokens", "Tokens as counted by the engines.",
            ["model", "kind"], registry=registry,
        )  # fmt: skip
        self.queue_seconds = Histogram(
            "headrace_edge_queue_seconds", "From arrival until a worker took the request.",
            ["model"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.first_byte_seconds = Histogram(
            "headrace_edge_first_byte_seconds", "From arrival until the answer's first byte.",
            ["model"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.total_seconds = Histogram(
            "headrace_edge_total_seconds", "From arrival until the end.",
            ["model"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.live = Gauge(
            "headrace_edge_live_requests", "Requests held at this moment.",
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.refused = Counter(
            "headrace_edge_refused", "Requests refused before they were queued.",
            ["code"], registry=registry,
        )  # fmt: skip
        self.resumes = Counter(
            "headrace_edge_resumes", "Times that frames were asked for again.", registry=registry
        )
        self.lost = Counter(
            "headrace_edge_attempts_lost", "Attempts that ended without an answer.",
            ["model", "reason"], registry=registry,
        )  # fmt: skip
        self.revived = Counter(
            "headrace_edge_attempts_revived", "Attempts given up that went on all the same.",
            registry=registry,
        )  # fmt: skip
        self.given_up = Counter(
            "headrace_edge_given_up", "Requests set aside after several lost workers.",
            ["model"], registry=registry,
        )  # fmt: skip
        self._models: dict[str, _OfModel] = {}
        self.bad_messages = Counter(
            "headrace_edge_bad_messages", "Messages that could not be read.", registry=registry
        )

        self._of_the_gateway(registry)

    def _of_the_gateway(self, registry: CollectorRegistry) -> None:
        self.store_age = Gauge(
            "headrace_edge_store_age_seconds",
            "Since the store last told of changes; -1 where it never has.",
            registry=registry, multiprocess_mode="max",
        )  # fmt: skip
        self.store_revision = Gauge(
            "headrace_edge_store_revision", "The number of the last change that is known here.",
            registry=registry, multiprocess_mode="min",
        )  # fmt: skip
        self.usage_waiting = Gauge(
            "headrace_edge_usage_rows_waiting", "Rows of accounts that are not written yet.",
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.usage_lost = Counter(
            "headrace_edge_usage_rows_lost", "Rows of accounts that there was no room for.",
            registry=registry,
        )  # fmt: skip
        self.usage_failures = Counter(
            "headrace_edge_usage_write_failures", "Batches of accounts that could not be written.",
            registry=registry,
        )  # fmt: skip
        self.tally_failures = Counter(
            "headrace_edge_tally_failures",
            "Times that counters could not be told to, or asked of, what all processes share.",
            registry=registry,
        )  # fmt: skip

        self.spent = Counter(
            "headrace_edge_spent", "What external models have cost, in the site's currency.",
            ["model"], registry=registry,
        )  # fmt: skip
        self.overspent = Counter(
            "headrace_edge_overspent_micros",
            "What requests have cost beyond what was reserved, in millionths: should stay 0.",
            registry=registry,
        )  # fmt: skip
        self.budget_refused = Counter(
            "headrace_edge_budget_refused", "Requests that a budget had too little left for.",
            ["model"], registry=registry,
        )  # fmt: skip

    def ended(self, request: LiveRequest, outcome: str, now: float) -> None:
        """Count a request that was queued and is over."""
        model = request.model
        of = self._models.get(model)
        if of is None:
            of = self._models[model] = _OfModel(self, model)
        self.requests.labels(model, outcome).inc()
        of.total.observe(now - request.arrived)
        if request.started:
            of.queue.observe(request.started - request.arrived)
        if request.first_byte:
            of.first_byte.observe(request.first_byte - request.arrived)
        usage = request.answer.usage
        if usage.prompt_tokens:
            of.prompt.inc(usage.prompt_tokens)
        if usage.completion_tokens:
            of.completion.inc(usage.completion_tokens)


class _OfModel:
    """What of the metrics is one model's: to find it costs more than to count."""

    __slots__ = ("completion", "first_byte", "prompt", "queue", "total")

    def __init__(self, metrics: EdgeMetrics, model: str) -> None:
        self.total = metrics.total_seconds.labels(model)
        self.queue = metrics.queue_seconds.labels(model)
        self.first_byte = metrics.first_byte_seconds.labels(model)
        self.prompt = metrics.tokens.labels(model, "prompt")
        self.completion = metrics.tokens.labels(model, "completion")
