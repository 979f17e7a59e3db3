"""Which requests' answers can be continued, and for which ids are asked."""

import json
from typing import Any

import pytest

from headrace.protocol.endpoints import Endpoint
from headrace.protocol.resumable import may_tell_ids, obstacle
from headrace.runtime.jsonobject import parse
from headrace.worker.resume.request_body import rewrite


def fields(**body: Any) -> Any:
    return parse(json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"n": 1, "logprobs": None, "presence_penalty": 0, "frequency_penalty": 0.0},
        {"n": 1.0, "logprobs": False, "top_logprobs": 0, "echo": False, "suffix": None},
        {"response_format": {"type": "text"}, "repetition_penalty": 1.2},
        {"prompt": "a"},
        {"prompt": ["a"]},
        {"prompt": [1, 2]},
        {"prompt": [[1, 2]]},
    ],
)
def test_what_can_be_continued(body: dict[str, Any]) -> None:
    assert obstacle(fields(**body)) is None
    assert may_tell_ids(fields(**body))


@pytest.mark.parametrize(
    "body",
    [
        {"n": 2},
        {"n": True},
        {"logprobs": True},
        {"logprobs": 0},
        {"top_logprobs": 3},
        {"response_format": {"type": "json_object"}},
        {"guided_regex": "a+"},
        {"structured_outputs": {"json": {}}},
        {"presence_penalty": 0.1},
        {"frequency_penalty": -1},
        {"echo": True},
        {"suffix": "z"},
        {"prompt": ["a", "b"]},
        {"prompt": [[1], [2]]},
    ],
)
def test_what_cannot(body: dict[str, Any]) -> None:
    assert obstacle(fields(**body)) == next(iter(body))
    assert not may_tell_ids(fields(**body))


def test_what_cannot_be_read_is_left_to_the_engine() -> None:
    assert obstacle(parse(b'{"n": "\xff"}')) == "n"
    assert obstacle(parse(b'{"prompt": ["\xff"]}')) == "prompt"


def test_no_ids_where_text_is_held_back_or_the_client_wants_them_itself() -> None:
    assert not may_tell_ids(fields(stop=["a"]))
    assert not may_tell_ids(fields(stop="a"))
    assert not may_tell_ids(fields(return_token_ids=True))
    assert may_tell_ids(fields(stop=[], return_token_ids=False))
    assert may_tell_ids(fields(stop=None))


def test_the_engine_is_asked_for_ids_where_they_are_of_use() -> None:
    def asked(stream: bool = True, endpoint: Endpoint = Endpoint.CHAT, **body: Any) -> bool:
        data = json.dumps(body).encode()
        made = rewrite(data, name="m", endpoint=endpoint, stream=stream, ids=True)
        assert ("return_token_ids" in json.loads(made.data)) is made.ids
        return made.ids

    assert asked()
    assert asked(endpoint=Endpoint.COMPLETIONS)
    assert not asked(stream=False)
    assert not asked(endpoint=Endpoint.EMBEDDINGS)
    assert not asked(n=2)
    made = rewrite(b"{}", name="m", endpoint=Endpoint.CHAT, stream=True)
    assert not made.ids
    assert b"token_ids" not in made.data
