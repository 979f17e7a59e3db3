"""Streams cut at any place and continued: what the edge keeps, and what must come of it."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from headrace.protocol.endpoints import Endpoint
from headrace.protocol.frames import Accepted, Chunk, End, Fail
from headrace.protocol.requests import Partial
from tests.support.worker_kit import Answer, Stand

USAGE = {"stream_options": {"include_usage": True}}


def events(data: bytes) -> list[dict[str, Any]]:
    """The JSON of a stream's events."""
    return [
        msgspec.json.decode(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")
    ]


def choices(said: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [choice for event in said for choice in event["choices"]]


def text_of(said: Iterable[dict[str, Any]]) -> str:
    """The text of events."""
    return "".join(map(_text, choices(said)))


def _text(choice: dict[str, Any]) -> str:
    return choice.get("text") or choice.get("delta", {}).get("content") or ""


def chunks(answer: Answer) -> list[Chunk]:
    return [frame for frame in answer.frames if isinstance(frame, Chunk)]


def partial_of(sent: Sequence[Chunk]) -> Partial:
    """What an edge keeps of these chunks, the first ones of an answer."""
    data = b"".join(chunk.data for chunk in sent)
    tokens = b"".join(chunk.tokens for chunk in sent)
    said = events(data)
    count = len(tokens) // 4 or sum(bool(_text(choice)) for choice in choices(said))
    finish = [each["finish_reason"] for each in choices(said) if each.get("finish_reason")]
    return Partial(
        after=len(data),
        id=said[0].get("id", "") if said else "",
        created=said[0].get("created", 0) if said else 0,
        text=text_of(said),
        tokens=tokens,
        count=count,
        finish=finish[0] if finish else "",
        told=bool(finish) and bool(said[-1].get("usage")),
    )


async def whole(
    stand: Stand, body: dict[str, Any], endpoint: Endpoint = Endpoint.CHAT, *, pieces: int = 1
) -> Answer:
    """A stream that nobody cuts, with its usage, in at least so many chunks.

    What comes while a worker is busy it puts together: then it is asked for again.
    """
    for _ in range(20):
        answer = await stand.edge.ask(body | USAGE, endpoint=endpoint)
        end = await answer.ended(60)
        assert isinstance(end, End), end
        if len(chunks(answer)) >= pieces:
            return answer
    raise AssertionError(f"it came in fewer than {pieces} chunks each time")


async def go_on(stand: Stand, answer: Answer, partial: Partial, **more: Any) -> Answer:
    """Ask for the rest of the same answer."""
    request = answer.request
    body = msgspec.json.decode(request.body) | more
    asked = stand.edge.request(body, endpoint=request.endpoint)
    rest = await stand.edge.send(msgspec.structs.replace(asked, partial=partial))
    await rest.ended(60)
    return rest


async def goes_on(stand: Stand, answer: Answer, cut: int, **changes: Any) -> Answer:
    """Cut `answer` after so many chunks: with its rest it is the same stream. The rest."""
    sent = chunks(answer)[:cut]
    partial = msgspec.structs.replace(partial_of(sent), **changes)
    rest = await go_on(stand, answer, partial)
    assert isinstance(rest.frames[-1], End), rest.frames[-1]
    accepted = rest.frames[0]
    assert isinstance(accepted, Accepted)
    assert accepted.after == partial.after
    joined = b"".join(chunk.data for chunk in sent) + rest.body
    first, both = events(answer.body), events(joined)
    assert text_of(both) == text_of(first), f"cut after {cut}: {partial.text!r}"
    assert len({(event["id"], event["object"]) for event in both}) == 1
    # llama.cpp's own events tell the time of each.
    assert {event["created"] for event in events(rest.body)} <= {partial.created}
    roles = [each for each in choices(both) if each.get("delta", {}).get("role")]
    assert len(roles) == (answer.request.endpoint is Endpoint.CHAT)
    reasons = [each["finish_reason"] for each in choices(both) if each["finish_reason"]]
    assert reasons == [each["finish_reason"] for each in choices(first) if each["finish_reason"]]
    usage = [event["usage"] for event in both if event.get("usage")]
    assert [counted(each) for each in usage] == [
        counted(event["usage"]) for event in first if event.get("usage")
    ], f"cut after {cut}: {[chunk.data for chunk in sent][-2:]} and then {rest.body!r}"
    assert joined.endswith(b"data: [DONE]\n\n")
    assert joined.count(b"[DONE]") == 1
    ended, told = answer.frames[-1], rest.frames[-1]
    assert isinstance(ended, End)
    assert told.usage == ended.usage
    return rest


def counted(usage: dict[str, Any]) -> list[int]:
    return [usage[f"{name}_tokens"] for name in ("prompt", "completion", "total")]


def cuts(answer: Answer, *, step: int = 1) -> Iterable[int]:
    """Places to cut at: after the first chunk, before the last, and between."""
    last = len(chunks(answer)) - 1
    assert last, "it came in one chunk: ask for two pieces"
    return itertools.chain(range(1, last, step), [last])


async def refused(stand: Stand, answer: Answer, cut: int = 3, **more: Any) -> Fail:
    """The failure of a continuation, of an answer that had not ended if it came in pieces."""
    sent = chunks(answer)
    rest = await go_on(stand, answer, partial_of(sent[:-1][:cut] or sent), **more)
    fail = rest.frames[-1]
    assert isinstance(fail, Fail)
    assert not chunks(rest)
    return fail
