"""What the engine gets of the client's JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code, HeadraceError
from headrace.worker.resume.request_body import rewrite

NAME = "Org/Model-1"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def made(body: bytes, endpoint: Endpoint = Endpoint.CHAT, *, stream: bool = True) -> Any:
    return json.loads(rewrite(body, name=NAME, endpoint=endpoint, stream=stream).data)


@given(st.dictionaries(st.text(), json_values, max_size=6), st.booleans())
def test_every_other_key_is_carried_as_it_is(body: dict[str, Any], stream: bool) -> None:
    ours = {"model", "stream", "stream_options"}
    sent = made(json.dumps(body).encode(), stream=stream)
    assert {k: v for k, v in sent.items() if k not in ours} == {
        k: v for k, v in body.items() if k not in ours
    }
    assert sent["model"] == NAME
    assert sent["stream"] is stream


def test_values_are_not_even_respelled() -> None:
    body = b'{"temperature": 1.10000000000000000001, "n": 1e3, "a": "\\u00e9"}'
    data = rewrite(body, name=NAME, endpoint=Endpoint.CHAT, stream=False).data
    for spelled in (b"1.10000000000000000001", b"1e3", b'"\\u00e9"'):
        assert spelled in data


def test_a_key_that_came_twice_counts_once() -> None:
    body = b'{"model": "a", "n": 1, "stream": false, "n": 2, "model": "b", "stream": false}'
    data = rewrite(body, name=NAME, endpoint=Endpoint.CHAT, stream=True).data
    assert data.count(b'"n"') == data.count(b'"model"') == data.count(b'"stream"') == 1
    assert json.loads(data)["n"] == 2


@pytest.mark.parametrize(
    ("options", "wants"),
    [
        (None, False),
        ("null", False),
        ("{}", False),
        ('{"include_usage": false}', False),
        ('{"include_usage": null}', False),
        ('{"include_usage": true}', True),
    ],
)
def test_usage_is_always_asked_for(options: str | None, wants: bool) -> None:
    body = "{}" if options is None else f'{{"stream_options": {options}}}'
    result = rewrite(body.encode(), name=NAME, endpoint=Endpoint.CHAT, stream=True)
    assert json.loads(result.data)["stream_options"] == {"include_usage": True}
    assert result.wants_usage is wants


def test_other_stream_options_stay() -> None:
    sent = made(b'{"stream_options": {"include_usage": false, "other": [1]}}')
    assert sent["stream_options"] == {"include_usage": True, "other": [1]}


def test_stream_options_that_are_none_are_left_to_the_engine() -> None:
    result = rewrite(b'{"stream_options": 5}', name=NAME, endpoint=Endpoint.CHAT, stream=True)
    assert json.loads(result.data)["stream_options"] == 5
    assert result.wants_usage, "nothing may be taken out that we have not put in"


def test_a_whole_answer_brings_its_usage_by_itself() -> None:
    assert "stream_options" not in made(b"{}", stream=False)


def test_embeddings_know_no_stream() -> None:
    sent = made(b'{"input": "a", "stream": true}', Endpoint.EMBEDDINGS, stream=False)
    assert sent == {"input": "a", "model": NAME}


@pytest.mark.parametrize("body", [b"", b"[]", b'"a"', b"{", b'{"a": }', b"{'a': 1}", b'{"a": 1} x'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(HeadraceError) as caught:
        rewrite(body, name=NAME, endpoint=Endpoint.CHAT, stream=True)
    assert caught.value.code is Code.INVALID_JSON


def test_depth_has_a_bound() -> None:
    body = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(HeadraceError):
        rewrite(body, name=NAME, endpoint=Endpoint.CHAT, stream=True)
