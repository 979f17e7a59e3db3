"""One model as its file in the catalogue describes it."""

import hashlib

import msgspec

from headrace.catalogue.scale import Scale
from headrace.external import model as external
from headrace.protocol.endpoints import Endpoint
from headrace.runtime import engine, lines, problems
from headrace.runtime.engine import EngineOptions, Slots
from headrace.runtime.modelfile import CommonModel, DrainSeconds, Endpoints
from headrace.slurm.spec import JobSpec


class ModelFile(CommonModel, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A model: what clients see of it, what serves it, how many jobs it gets, and of which kind."""

    endpoints: Endpoints = (Endpoint.CHAT, Endpoint.COMPLETIONS)
    slots: Slots = 8
    drain_seconds: DrainSeconds = 30.0
    engine: EngineOptions
    scale: Scale = Scale()
    job: JobSpec

    def __post_init__(self) -> None:
        super().__post_init__()
        engine.check(self.engine)

    @property
    def generation(self) -> str:
        """12 hex digits over all that a running worker depends on.

        A job that was submitted with another generation serves an older version of the model;
        what `scale` and `description` say can change without new jobs.
        """
        job = self.job.hash  # without the nodes to exclude
        worker = (self.name, self.slots, self.lanes, self.drain_seconds, self.engine, job)
        data = msgspec.json.encode(worker, order="deterministic")
        return hashlib.sha256(data).hexdigest()[:12]


def read(text: str) -> ModelFile:
    """The model that a file's text describes. Raises FileRefusedError with line and reason."""
    table = problems.parse(text)
    if external.is_external(table):
        raise problems.FileRefusedError(
            lines.find(lines.lines_of(text), ("engine", "kind")),
            "engine.kind: of a model that leaves the site; its file belongs on the web machine",
        )
    try:
        return msgspec.convert(table, ModelFile)
    except msgspec.ValidationError as error:
        problems.refuse(text, error)
