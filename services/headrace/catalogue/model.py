"""One model as its file in the catalogue describes it."""

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta

from headrace.catalogue.scale import Scale
from headrace.protocol import names
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.names import Slug
from headrace.protocol.plan import Facts
from headrace.runtime import engine, lines, problems
from headrace.runtime.engine import EngineOptions, Lanes, Slots
from headrace.runtime.external import model as external
from headrace.slurm.spec import JobSpec

MAX_FILE_BYTES = 64 * 1024


class ModelFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model: what clients see of it, what serves it, how many jobs it gets, and of which kind."""

    name: str
    """As clients write it."""
    slug: str = ""
    """Its name in subjects and of jobs; made from `name` if not given."""
    description: Annotated[str, Meta(max_length=1000)] = ""
    group: Annotated[str, Meta(max_length=64)] = ""
    modality: Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9+-]{0,31}\Z")] = "text"
    endpoints: Annotated[tuple[Endpoint, ...], Meta(min_length=1, max_length=16)] = (
        Endpoint.CHAT,
        Endpoint.COMPLETIONS,
    )
    slots: Slots = 8
    """Requests that one worker runs side by side."""
    lanes: Lanes = Lanes()
    drain_seconds: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    """How long requests in work may go on when their worker is asked to end."""
    engine: EngineOptions
    scale: Scale = Scale()
    job: JobSpec

    def __post_init__(self) -> None:
        try:
            names.model_name(self.name)
            names.slug_of(self.name) if not self.slug else names.slug(self.slug)
        except ValueError as error:
            raise ValueError(f"{'slug' if self.slug else 'name'}: {error}") from None
        for field in ("description", "group"):
            if not getattr(self, field).replace("\n", " ").isprintable():
                raise ValueError(f"{field}: only printable characters")
        if len(set(self.endpoints)) < len(self.endpoints):
            raise ValueError("endpoints: one is there twice")
        engine.check(self.engine)

    @property
    def queue(self) -> Slug:
        """The slug under which its requests are queued and its jobs are named."""
        return names.slug(self.slug) if self.slug else names.slug_of(self.name)

    @property
    def facts(self) -> Facts:
        """What clients may know of it."""
        return Facts(self.name, self.endpoints, self.modality, self.description, self.group)

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
    """The model that a file's text describes. Raises Refused with line and reason."""
    table = problems.parse(text)
    if external.is_external(table):
        raise problems.Refused(
            lines.find(lines.lines_of(text), ("engine", "kind")),
            "engine.kind: of a model that leaves the site; its file belongs on the web machine",
        )
    try:
        return msgspec.convert(table, ModelFile)
    except msgspec.ValidationError as error:
        problems.refuse(text, error)
