"""What leaves for a provider, what its answers mean, and when it is left alone."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.external import model
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code, HeadraceError
from headrace.worker.provider import error_mapping, rewrite
from headrace.worker.provider.circuit_breaker import CircuitBreaker
from headrace.worker.provider.error_mapping import ProviderError
from headrace.worker.provider.event_reader import ProviderReader
from tests.support.gateway_edges import SOLD

FILE = model.read(SOLD + '[request]\nsystem_prompt = "Ours."\nmax_output_tokens = 100\n')
DROPS = model.read(SOLD + '[request]\nsystem_messages = "drop"\n')
USER = {"role": "user", "content": "hi"}
ALLOWED = rewrite.CHAT | {
    "model", "messages", "tools", "max_completion_tokens", "n", "stream", "stream_options"
}  # fmt: skip


def made(file: Any = FILE, *, stream: Any = False, **body: Any) -> Any:
    data = json.dumps({"model": "x", "messages": [USER]} | body).encode()
    return json.loads(rewrite.rewrite(file, Endpoint.CHAT, data, stream=stream).data)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=5), max_size=5))
def test_whatever_is_asked_only_what_is_on_the_list_leaves(more: dict[str, str]) -> None:
    own = {*ALLOWED, "file", "stream", "max_tokens"}
    more = {name: value for name, value in more.items() if name not in own}
    assert set(made(**more)) == {"model", "messages", "max_completion_tokens", "n"}


def test_our_prompt_is_first_and_clients_instructions_are_kept_or_dropped() -> None:
    theirs = [{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, USER]
    kept = made(messages=theirs)["messages"]
    assert [each["content"] for each in kept] == ["Ours.", "a", "b", "hi"]
    assert [each["role"] for each in made(DROPS, messages=theirs)["messages"]] == ["user"]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [({}, 100), ({"max_tokens": 7}, 7), ({"max_completion_tokens": 700}, 100),
     ({"max_tokens": None, "max_completion_tokens": 9}, 9)],
)  # fmt: skip
def test_an_answer_is_no_longer_than_the_file_allows(asked: dict[str, Any], sent: int) -> None:
    assert made(**asked)["max_completion_tokens"] == sent


def test_usage_is_always_asked_for_and_choices_are_one() -> None:
    sent = made(stream=True, stream_options={"include_usage": False, "x": 1}, n=5)
    assert (sent["stream_options"], sent["n"]) == ({"include_usage": True}, 1)


def test_a_conversation_with_tools_goes_as_it_is() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    told = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    sent = made(messages=told, tools=tools, tool_choice="auto")
    assert sent["messages"][1:] == told
    assert (sent["tools"], sent["tool_choice"]) == (tools, "auto")
    assert "tool_choice" not in made(tool_choice="auto")


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        {"messages": [{"role": "boss", "content": "x"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": 7},
        {"tools": [{"type": "web_search", "function": {"name": "x"}}]},
        {"tools": [{"type": "web_search"}]},
        {"max_tokens": "many"},
    ],
)
def test_what_could_cost_unbounded_or_is_no_request_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(HeadraceError) as error:
        made(**body)
    assert error.value.code is Code.UNPROCESSABLE


@pytest.mark.parametrize("endpoint", [Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS])
def test_what_is_not_offered_is_refused(endpoint: Endpoint) -> None:
    with pytest.raises(HeadraceError) as error:
        rewrite.rewrite(FILE, endpoint, b"{}", stream=False)
    assert error.value.code is Code.ENDPOINT_NOT_SERVED


@pytest.mark.parametrize(
    ("status", "trouble", "code"),
    [
        (200, ProviderError.NONE, None), (400, ProviderError.NONE, None),
        (422, ProviderError.NONE, None),
        (401, ProviderError.REFUSED, Code.PROVIDER_REFUSED),
        (302, ProviderError.REFUSED, Code.PROVIDER_REFUSED),
        (404, ProviderError.REFUSED, Code.PROVIDER_REFUSED),
        (429, ProviderError.BUSY, Code.PROVIDER_UNAVAILABLE),
        (503, ProviderError.AWAY, Code.PROVIDER_UNAVAILABLE),
    ],
)  # fmt: skip
def test_what_a_status_means(status: int, trouble: ProviderError, code: Code | None) -> None:
    found = error_mapping.verdict(status, "9")
    assert found.trouble is trouble
    assert (found.error.code if found.error else None) == code
    if trouble in (ProviderError.BUSY, ProviderError.AWAY):
        assert found.error is not None
        assert found.error.retry_after == 9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("20", 20), ("0.5", 0.5), ("Wed, 21 Oct", 0), ("-3", 0), ("99999", 3600), ("nan", 0)],
)
def test_when_to_come_again(text: str, seconds: float) -> None:
    assert error_mapping.seconds(text) == seconds


def test_a_refusal_keeps_its_reason_and_nothing_of_us() -> None:
    told = {"message": "Bad temperature. Key sk-proj-ab*** of org-12, see https://x.y/z?k=1",
            "param": "temperature", "code": "invalid_value", "organization": "org-12"}  # fmt: skip
    body = bytearray(json.dumps({"error": told}).encode())
    said = json.loads(error_mapping.refusal(400, body, "sk-proj-abc"))["error"]
    assert said["message"] == "Bad temperature. Key … of …, see …"
    assert (said["param"], said["code"]) == ("temperature", "invalid_value")
    assert set(said) == {"message", "type", "param", "code"}


@given(st.binary(max_size=100))
def test_whatever_a_refusal_is_it_becomes_an_error_object(body: bytes) -> None:
    assert set(json.loads(error_mapping.refusal(400, bytearray(body), "k"))) == {"error"}


def test_an_error_in_a_stream_is_not_passed_on_and_words_about_errors_are() -> None:
    words = rb'data: {"choices":[{"delta":{"content":"say \"error\": {"}}]}' + b"\n\n"
    assert ProviderReader(keep=False).read(words) == words
    with pytest.raises(HeadraceError, match="engine_failed"):
        ProviderReader(keep=False).read(words + b'data: {"error": {"message": "org-1"}}\n\n')


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"id": "x", "error": {"message": "org-1"}}',
        b'data: { "error" : "org-1" }',
        b'data: {"type": "error", "code": "org-1", "error": null}',
        b"event: error\ndata: org-1",
        b'data: {"error": org-1',
    ],
)
def test_an_error_in_whatever_shape_is_not_passed_on(event: bytes) -> None:
    with pytest.raises(HeadraceError, match="engine_failed"):
        ProviderReader(keep=False).read(event + b"\n\n")


def test_what_only_looks_like_an_error_passes() -> None:
    event = b'data: {"choices": [{"delta": {"content": "\\"error\\": 1"}}], "error": null}\n\n'
    assert ProviderReader(keep=False).read(event) == event


def test_back_off_doubles_and_ends_with_an_answer() -> None:
    weather = CircuitBreaker(30.0)
    assert weather.open(0.0)
    waits = []
    now = 0.0
    for _ in range(8):
        weather.failed("away", now)
        waits.append(weather.wait(now))
        now += waits[-1]
        assert not weather.open(now)  # in doubt until it has answered
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    weather.answered(now)
    assert weather.open(now)


def test_who_is_busy_is_left_alone_for_as_long_as_it_says_and_is_not_doubted() -> None:
    weather = CircuitBreaker(30.0)
    weather.busy(20.0, 0.0)
    assert not weather.open(19.9)
    weather.answered(5.0)  # the probe costs nothing and proves nothing
    assert not weather.open(19.9)
    assert weather.open(20.0)
    weather.busy(1e9, 0.0)
    assert weather.open(300.0)
