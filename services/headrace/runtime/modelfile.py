"""What a model's file says of it, whoever serves it: a job of a cluster or a provider."""

from typing import Annotated

import msgspec
from msgspec import Meta

from headrace.protocol import names
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.names import Slug
from headrace.protocol.plan import Facts
from headrace.runtime.engine import Lanes, Slots

Endpoints = Annotated[tuple[Endpoint, ...], Meta(min_length=1, max_length=16)]
DrainSeconds = Annotated[float, Meta(ge=0, le=3600)]


class CommonModel(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What clients see of it, and how its workers take requests.

    What has no default here has one in each kind of file.
    """

    name: str
    """As clients write it."""
    slug: str = ""
    """Its name in subjects and of jobs; made from `name` if not given."""
    description: Annotated[str, Meta(max_length=1000)] = ""
    group: Annotated[str, Meta(max_length=64)] = ""
    modality: Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9+-]{0,31}\Z")] = "text"
    endpoints: Endpoints
    slots: Slots
    """Requests that one worker runs side by side."""
    lanes: Lanes = Lanes()
    drain_seconds: DrainSeconds
    """How long requests in work may go on when their worker is asked to end."""

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

    @property
    def queue(self) -> Slug:
        """The slug under which its requests are queued and its jobs are named."""
        return names.slug(self.slug) if self.slug else names.slug_of(self.name)

    @property
    def facts(self) -> Facts:
        """What clients may know of it."""
        return Facts(self.name, self.endpoints, self.modality, self.description, self.group)
