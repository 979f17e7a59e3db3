"""In which lane a request is that is published anew."""

from typing import Any, cast

import pytest

from headrace.edge.dispatch.publisher import Publisher
from headrace.edge.dispatch.request import LiveRequest, LiveTable
from headrace.protocol import names
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.names import Slug

pytestmark = pytest.mark.anyio


class Nothing:
    """In the place of what runs in the background: it does not."""

    def spawn(self, work: Any) -> None:
        work.close()


def made(**state: float) -> LiveRequest:
    request = LiveRequest(
        id=names.new_request_id(),
        endpoint=Endpoint.CHAT,
        model=Slug("m1"),
        stream=True,
        body=b"{}",
        tenant="t",
        lane="low",
        trace="",
        now=0.0,
        wall=0.0,
        deadline_seconds=60.0,
        max_buffered=1 << 20,
    )
    for name, value in state.items():
        setattr(request, name, value)
    return request


@pytest.mark.parametrize(
    ("state", "lane"),
    [({}, "low"), ({"started": 3.0}, "high"), ({"delivered_at": 3.0}, "high")],
    ids=["waited", "begun", "given out"],
)
async def test_only_whose_turn_had_come_goes_before_others(
    state: dict[str, float], lane: str
) -> None:
    nothing = cast("Any", Nothing())
    publisher = Publisher(names.new_process_id(), LiveTable(10), nothing, nothing)
    request = made(**state)
    publisher.anew(request)
    assert request.lane == lane
    assert request.publishes == 1
