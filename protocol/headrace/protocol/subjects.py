"""The subjects of the bus, each built from admitted names and taken apart again.

| subject                               | from -> to                |
| ``hr.req.<model>.<lane>.<edge>``      | edge -> workers           |
| ``hr.res.<edge>.<request>``           | worker -> edge            |
| ``hr.res.<edge>.many``                | worker -> edge            |
| ``hr.ctl.<worker>``                   | edge -> worker            |
| ``hr.ctl.all``                        | edge -> all workers       |
| ``hr.state.<cluster>.<model>.<worker>`` | worker -> edges, scaler |
| ``hr.plan.<cluster>.<model>``         | scaler -> edges, scalers  |
| ``hr.demand.<model>``                 | edge -> scaler            |
| ``hr.edge.<edge>``                    | edge -> edges             |
"""

from typing import Final

from headrace.protocol import names
from headrace.protocol.names import ProcessId, RequestId, Slug

STREAM: Final = "REQUESTS"
"""The JetStream stream that holds every waiting request."""

DOMAIN: Final = "hub"
"""The JetStream domain of the web machine's server, seen from a cluster."""

REQUESTS: Final = "hr.req.>"
STATES: Final = "hr.state.>"
PLANS: Final = "hr.plan.>"
DEMANDS: Final = "hr.demand.>"
EDGES: Final = "hr.edge.>"
MANY: Final = "many"
"""In place of a request's id: frames of several requests, or several frames of one."""

CONTROL_ALL: Final = "hr.ctl.all"
"""For the one worker that has a request, where the edge does not know which that is."""


def request(model: Slug, lane: str, edge: ProcessId) -> str:
    """Where `edge` publishes a request of `model`."""
    return f"hr.req.{names.slug(model)}.{names.lane(lane)}.{names.process_id(edge)}"


def request_lane(subject: str) -> str:
    """The lane in a subject of requests. Only as good as the subject: look it up, no more."""
    return subject.rsplit(".", 2)[-2]


def requests(model: Slug, lane: str) -> str:
    """The requests of one lane of `model`, whichever edge they are of."""
    return f"hr.req.{names.slug(model)}.{names.lane(lane)}.*"


def requests_of(edge: ProcessId) -> str:
    """The requests of one edge."""
    return f"hr.req.*.*.{names.process_id(edge)}"


def edge(edge: ProcessId) -> str:
    """Where `edge` tells the others that it is there."""
    return f"hr.edge.{names.process_id(edge)}"


def consumer(model: Slug, lane: str) -> str:
    """The durable pull consumer of one model's lane. A slug has no underscore: no collision."""
    return f"{names.slug(model)}_{names.lane(lane)}"


def response(edge: ProcessId, request: RequestId) -> str:
    """Where a worker publishes the frames of `request`."""
    return f"hr.res.{names.process_id(edge)}.{names.request_id(request)}"


def responses_together(edge: ProcessId) -> str:
    """Where a worker publishes frames that leave it at the same time."""
    return f"hr.res.{names.process_id(edge)}.{MANY}"


def responses(edge: ProcessId) -> str:
    """The one subscription of an edge process, over all its requests."""
    return f"hr.res.{names.process_id(edge)}.*"


def response_request(subject: str) -> str:
    """The request's id in a response subject. Only as good as the subject: look it up, no more."""
    return subject[subject.rfind(".") + 1 :]


def last_name(subject: str) -> str:
    """The last token: the edge in a subject of requests or of edges. No better than the subject."""
    return subject[subject.rfind(".") + 1 :]


def control(worker: ProcessId) -> str:
    """Where an edge tells `worker` to cancel or to send again."""
    return f"hr.ctl.{names.process_id(worker)}"


def state(cluster: Slug, model: Slug, worker: ProcessId) -> str:
    """Where `worker` publishes its heartbeat."""
    return f"hr.state.{names.slug(cluster)}.{names.slug(model)}.{names.process_id(worker)}"


def plan(cluster: Slug, model: Slug) -> str:
    """Where a cluster's scaler tells what it plans for `model`."""
    return f"hr.plan.{names.slug(cluster)}.{names.slug(model)}"


def demand(model: Slug) -> str:
    """Where an edge tells scalers that requests wait for `model`."""
    return f"hr.demand.{names.slug(model)}"


def demand_model(subject: str) -> Slug:
    """The model of a demand subject, or ValueError."""
    return names.slug(subject.removeprefix("hr.demand."))


def worker_inbox(worker: ProcessId) -> str:
    """The inbox prefix of one worker: on a cluster no other principal may read below it."""
    return f"_INBOX.worker.{names.process_id(worker)}"


def external_inbox(worker: ProcessId) -> str:
    """The inbox prefix of one worker of external models: no cluster reads or writes below it."""
    return f"_INBOX.external.{names.process_id(worker)}"


def scaler_inbox(scaler: ProcessId) -> str:
    """The inbox prefix of one scaler process."""
    return f"_INBOX.scaler.{names.process_id(scaler)}"


def edge_inbox(edge: ProcessId) -> str:
    """The inbox prefix of one edge process."""
    return f"_INBOX.edge.{names.process_id(edge)}"
