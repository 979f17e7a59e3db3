"""What is remembered of a request from when it was let in until it is over."""

import msgspec

from headrace.edge.http import Headers
from headrace.edge.limiter import Ticket
from headrace.edge.spending import Spending
from headrace.gateway.snapshot import Grant


class Admission(msgspec.Struct, frozen=True):
    """A request that was let in."""

    grant: Grant
    group: str
    """To which it is accounted."""
    model: str
    ticket: Ticket
    headers: Headers
    """What its client is told of its limits."""
    spending: Spending | None = None
    """What is reserved for it, of an external model."""
