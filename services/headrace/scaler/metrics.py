"""The scaler's metrics."""

import math
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from headrace.catalogue.status import ModelRow
from headrace.scaler.policy.observations import JobOutcome, JobPhase
from headrace.slurm.sbatch import SubmitOutcome

SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30)
"""From a controller that idles to the time-out of a command."""


class ScalerMetrics:
    """Every metric of the scaler, declared in `registry`."""

    def __init__(self, registry: CollectorRegistry, cluster: str) -> None:
        self._cluster = cluster
        models: list[Gauge | Counter] = []

        def gauge(name: str, text: str, *more: str) -> Gauge:
            labels = ("cluster", "model", *more)
            models.append(made := Gauge(f"headrace_scaler_{name}", text, labels, registry=registry))
            return made

        def counter(name: str, text: str, *more: str) -> Counter:
            labels = ("cluster", "model", *more)
            name = f"headrace_scaler_{name}_total"
            models.append(made := Counter(name, text, labels, registry=registry))
            return made

        self._desired = gauge("desired", "Jobs that the scaler wants, kept warm ones included")
        self._needed = gauge("needed", "Jobs that work asks for, or the operator")
        self._jobs = gauge("jobs", "Jobs that there are, by phase", "phase")
        self._waiting = gauge("waiting", "Requests in the queue that no worker has")
        self._running = gauge("running", "Requests that workers have")
        self._oldest = gauge("oldest_wait_seconds", "How long the oldest waiting request waits")
        self._failed = gauge("failed", "Whether the model is given up")
        self._submissions = counter("submissions", "Answers of sbatch, by outcome", "outcome")
        self._cancels = counter("cancels", "Jobs cancelled")
        self._drains = counter("drains", "Jobs told to drain")
        self._ended = counter("jobs_ended", "Jobs that have ended, by outcome", "outcome")
        self._models = tuple(models)
        self._problems = Gauge(
            "headrace_scaler_problems",
            "What kept the last round from acting: headrace top says it in words",
            ["cluster"],
            registry=registry,
        ).labels(cluster)
        self.squeue_seconds = Histogram(
            "headrace_scaler_squeue_seconds",
            "How long squeue took",
            ["cluster"],
            buckets=SECONDS,
            registry=registry,
        ).labels(cluster)
        self.squeue_errors = Counter(
            "headrace_scaler_squeue_errors_total",
            "Answers of squeue that could not be trusted",
            ["cluster"],
            registry=registry,
        ).labels(cluster)
        self.squeue_age = Gauge(
            "headrace_scaler_squeue_age_seconds",
            "Since the last answer of squeue that could be trusted",
            ["cluster"],
            registry=registry,
        ).labels(cluster)
        self.squeue_age.set(math.inf)  # until somebody knows it

    def model(self, row: ModelRow, needed: int) -> None:
        """Show a model as operators see it."""
        who = (self._cluster, row.model)
        self._desired.labels(*who).set(row.desired)
        self._needed.labels(*who).set(needed)
        self._waiting.labels(*who).set(row.waiting)
        self._running.labels(*who).set(row.running)
        self._oldest.labels(*who).set(row.oldest_wait)
        self._failed.labels(*who).set(bool(row.failed))
        for phase in JobPhase:
            count = sum(worker.phase == phase for worker in row.workers)
            self._jobs.labels(*who, phase).set(count)

    def begin(self, model: str) -> None:
        """Have a model's counters there, at zero, so that their first step can be seen."""
        who = (self._cluster, model)
        for submitted in SubmitOutcome:
            self._submissions.labels(*who, submitted)
        for outcome in JobOutcome:
            self._ended.labels(*who, outcome)
        self._cancels.labels(*who)
        self._drains.labels(*who)

    def forget(self, model: str) -> None:
        """A model has gone."""
        for each in self._models:
            each.remove_by_labels({"cluster": self._cluster, "model": model})

    def submitted(self, model: str, outcome: SubmitOutcome) -> None:
        """Count an answer of sbatch."""
        self._submissions.labels(self._cluster, model, outcome).inc()

    def cancelled(self, model: str) -> None:
        """Count a job that we ended."""
        self._cancels.labels(self._cluster, model).inc()

    def drained(self, model: str) -> None:
        """Count a job that we told to drain."""
        self._drains.labels(self._cluster, model).inc()

    def ended(self, model: str, outcome: JobOutcome) -> None:
        """Count a job that has ended."""
        self._ended.labels(self._cluster, model, outcome).inc()

    def round(self, problems: int) -> None:
        """A round is over."""
        self._problems.set(problems)
