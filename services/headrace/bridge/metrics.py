"""The bridge's metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class BridgeMetrics:
    """All of them, declared in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge(
            "headrace_bridge_up",
            "Whether the SSH connection is up.",
            ["cluster"],
            registry=registry,
        )
        self.sessions = Gauge(
            "headrace_bridge_sessions",
            "Connections of the hub that are joined to the cluster, or about to be.",
            ["cluster"],
            registry=registry,
        )
        self.bytes = Counter(
            "headrace_bridge_bytes_total",
            "Bytes carried, by direction: to the cluster, or from it.",
            ["cluster", "direction"],
            registry=registry,
        )
        self.connects = Counter(
            "headrace_bridge_connects_total",
            "SSH connections made. All but the first are reconnections.",
            ["cluster"],
            registry=registry,
        )
        self.failures = Counter(
            "headrace_bridge_failures_total",
            "SSH connections lost or not made, by reason.",
            ["cluster", "reason"],
            registry=registry,
        )
        self.cuts = Counter(
            "headrace_bridge_cuts_total",
            "Sessions and connections that the watchdog cut, by reason.",
            ["cluster", "reason"],
            registry=registry,
        )
        self.refused = Counter(
            "headrace_bridge_refused_total",
            "Connections of the hub that were closed at once, by reason.",
            ["cluster", "reason"],
            registry=registry,
        )


class ClusterMetrics:
    """The metrics of one cluster: all of them there, at zero, from the start."""

    def __init__(self, metrics: BridgeMetrics, cluster: str) -> None:
        self._metrics = metrics
        self._cluster = cluster
        self.up = metrics.up.labels(cluster)
        self.sessions = metrics.sessions.labels(cluster)
        self.sent = metrics.bytes.labels(cluster, "to_cluster")
        self.received = metrics.bytes.labels(cluster, "from_cluster")
        self.connects = metrics.connects.labels(cluster)

    def failed(self, reason: str) -> None:
        """A connection was lost or not made."""
        self._metrics.failures.labels(self._cluster, reason).inc()

    def cut(self, reason: str) -> None:
        """The watchdog cut something."""
        self._metrics.cuts.labels(self._cluster, reason).inc()

    def refuse(self, reason: str) -> None:
        """A connection of the hub was closed at once."""
        self._metrics.refused.labels(self._cluster, reason).inc()
