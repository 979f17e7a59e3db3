"""Events of a continuation become those of the stream."""

import json
from typing import Any

from headrace.protocol.endpoints import Endpoint
from headrace.protocol.frames import Usage
from headrace.protocol.requests import Partial
from headrace.worker.resume.event_rewriter import DONE, EventRewriter, ending

PARTIAL = Partial(after=9, id="chatcmpl-1", created=5, text="One", count=3)
USAGE = {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24, "more": {}}


def event(*choices: Any, **more: Any) -> bytes:
    body = {"id": "other", "created": 99, "model": "m", "object": "o", "choices": choices} | more
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def delta(finish: str | None = None, **content: Any) -> dict[str, Any]:
    return {"index": 0, "delta": content, "finish_reason": finish}


def read(reader: EventRewriter, *events: bytes) -> list[Any]:
    passed = reader.read(b"".join(events)) + reader.read(DONE)
    assert passed.endswith(DONE)
    return [json.loads(each[6:]) for each in passed.split(b"\n\n")[:-2]]


def test_events_are_those_of_the_stream() -> None:
    (said,) = read(EventRewriter(PARTIAL, keep_usage=True), event(delta(content="x"), extra=1))
    assert said == {
        "id": "chatcmpl-1", "created": 5, "model": "m", "object": "o",
        "choices": [delta(content="x")], "extra": 1,
    }  # fmt: skip


def test_no_second_role_comes() -> None:
    reader = EventRewriter(PARTIAL, keep_usage=True)
    roles = [{"role": "assistant"} | more for more in ({}, {"content": ""}, {"content": None})]
    assert read(reader, *(event(delta(**role)) for role in roles)) == []
    said = read(reader, event(delta(role="assistant", content="x")), event(delta("stop")))
    assert [each["choices"][0]["delta"] for each in said] == [{"content": "x"}, {}]


def test_where_nothing_was_sent_all_is_kept() -> None:
    (said,) = read(EventRewriter(Partial(0), keep_usage=True), event(delta(role="assistant")))
    assert said["id"] == "other"
    assert said["choices"][0]["delta"] == {"role": "assistant"}


def test_the_usage_counts_each_token_once() -> None:
    reader = EventRewriter(PARTIAL, keep_usage=True, count=3, prompt_tokens=17)
    (said,) = read(reader, event(usage=USAGE))
    assert said["usage"] == {"prompt_tokens": 17, "completion_tokens": 7, "total_tokens": 24}
    assert reader.usage == Usage(17, 7)
    silent = EventRewriter(PARTIAL, keep_usage=False, count=3, prompt_tokens=17)
    assert read(silent, event(usage=USAGE)) == []
    assert silent.usage == Usage(17, 7)
    (beside,) = read(silent, event(delta("stop"), usage=USAGE))
    assert beside["usage"]["completion_tokens"] == 7


def test_a_completions_events_become_a_chats() -> None:
    reader = EventRewriter(PARTIAL, keep_usage=True, chat=True)
    text = {"index": 0, "text": "x", "logprobs": None, "token_ids": [7], "prompt_token_ids": [1]}
    one, two = read(
        reader,
        event(text | {"finish_reason": None}),
        event(text | {"text": "", "finish_reason": "stop", "stop_reason": 2, "token_ids": None}),
    )
    assert one["object"] == "chat.completion.chunk"
    made = {"index": 0, "delta": {"content": "x"}, "logprobs": None, "finish_reason": None}
    assert one["choices"] == [made | {"token_ids": [7]}]
    assert list(one["choices"][0]) == ["index", "delta", "logprobs", "finish_reason", "token_ids"]
    (last,) = two["choices"]
    assert (last["delta"], last["finish_reason"]) == ({"content": ""}, "stop")
    assert last["stop_reason"] == 2


def test_what_is_no_such_event_passes() -> None:
    for odd in (b": comment\n\n", b'data: {"error": {"message": "x"}}\n\n', b"data: {\n\n", DONE):
        assert EventRewriter(PARTIAL, keep_usage=True).read(odd) == odd


def test_what_is_missing_where_all_tokens_were_sent() -> None:
    def said(partial: Partial, keep: bool, endpoint: Endpoint = Endpoint.CHAT) -> list[Any]:
        events = ending(partial, endpoint, "m", Usage(2, 3), keep_usage=keep).split(b"\n\n")
        assert events[-2:] == [b"data: [DONE]", b""]
        return [json.loads(each[6:]) for each in events[:-2]]

    finished = Partial(9, "chatcmpl-1", 5, "One", b"", 3, "stop")
    assert said(finished, keep=False) == []
    (usage,) = said(finished, keep=True)
    assert usage["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert (usage["id"], usage["created"], usage["choices"]) == ("chatcmpl-1", 5, [])
    (last,) = said(PARTIAL, keep=False)
    assert last["choices"] == [
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    ]
    (last,) = said(PARTIAL, keep=False, endpoint=Endpoint.COMPLETIONS)
    assert last["object"] == "text_completion"
    assert last["choices"][0]["text"] == ""


def test_what_is_null_is_not_there() -> None:
    reader = EventRewriter(Partial(10, "chatcmpl-1", 7, "Once"), keep_usage=True)
    assert reader.read(b'data: {"choices":null}\n\n') == b'data: {"choices":null}\n\n'
    made = reader.read(b'data: {"id":"x","choices":[{"index":0,"delta":null}]}\n\n')
    assert json.loads(made[6:])["id"] == "chatcmpl-1"
