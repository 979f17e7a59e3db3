"""What is asked of an engine for the rest of an answer."""

import json
from typing import Any

import msgspec
import pytest

from headrace.runtime.jsonobject import parse
from headrace.worker.resume import resume_body

USER = {"role": "user", "content": "hi"}
BEGUN = {"role": "assistant", "content": "One"}


def fields(**body: Any) -> Any:
    return parse(json.dumps(body).encode())


def said(given: Any) -> Any:
    return json.loads(msgspec.json.encode(given))


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({}, {}),
        ({"max_tokens": None}, {"max_tokens": None}),
        ({"max_tokens": 10}, {"max_tokens": 6}),
        ({"max_tokens": 4}, None),
        ({"max_tokens": -1}, {"max_tokens": -1}),
        (
            {"max_completion_tokens": 9, "max_tokens": 3},
            {"max_completion_tokens": 5, "max_tokens": 1},
        ),
        ({"max_completion_tokens": 3, "max_tokens": 9}, None),
        ({"n_predict": 5}, {"n_predict": 1}),
        ({"max_tokens": 10, "min_tokens": 5}, {"max_tokens": 6, "min_tokens": 1}),
        ({"min_tokens": 3}, {"min_tokens": 0}),
        ({"max_tokens": "odd"}, {"max_tokens": "odd"}),
    ],
)  # fmt: skip
def test_limits_are_less_by_what_was_sent(
    body: dict[str, Any], left: dict[str, Any] | None
) -> None:
    spent = resume_body.spend(fields(**body), 4)
    assert (None if spent is None else said(spent)) == left


def test_a_probe_asks_for_one_token_and_nothing_else() -> None:
    asked = fields(
        messages=[USER], max_completion_tokens=9, min_tokens=2, n=3, stream=True,
        stream_options={}, return_token_ids=True, temperature=0.5,
    )  # fmt: skip
    assert said(resume_body.probe(asked)) == {
        "messages": [USER], "temperature": 0.5, "max_tokens": 1, "stream": False,
    }  # fmt: skip


CONTINUED = {"continue_final_message": True, "add_generation_prompt": False}


def test_text_goes_into_a_last_message() -> None:
    asked = fields(messages=[USER], return_token_ids=True, temperature=0)
    made = resume_body.after_text(asked, "One", prefills=False)
    assert said(made) == {"messages": [USER, BEGUN], "temperature": 0} | CONTINUED


def test_a_message_that_the_client_has_begun_is_continued() -> None:
    whole = [USER, {"role": "assistant", "content": "One, two"}]
    for asked, prefills in (
        (fields(messages=[USER, BEGUN], **CONTINUED), False),
        (fields(messages=[USER, BEGUN]), True),
    ):
        made = resume_body.after_text(asked, ", two", prefills=prefills)
        assert said(made)["messages"] == whole
    made = resume_body.after_text(fields(messages=[USER, BEGUN]), "x", prefills=False)
    assert said(made)["messages"] == [USER, BEGUN, {"role": "assistant", "content": "x"}]
    parts = [USER, {"role": "assistant", "content": [{"type": "text", "text": "One"}]}]
    assert resume_body.after_text(fields(messages=parts), "x", prefills=True) is None


def test_text_goes_to_the_end_of_a_prompt() -> None:
    for prompt in ("One", ["One"]):
        made = resume_body.after_text(fields(prompt=prompt), ", two", prefills=False)
        assert said(made) == {"prompt": "One, two"}
    assert resume_body.after_text(fields(prompt=[1, 2]), "x", prefills=False) is None
    assert resume_body.after_text(fields(messages=[]), "x", prefills=False) is None
    assert resume_body.after_text(fields(messages="odd"), "x", prefills=False) is None


def test_what_is_not_text_alone_goes_by_the_text() -> None:
    text = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    assert resume_body.takes_ids(fields(messages=[USER, text]))
    assert resume_body.takes_ids(fields(prompt="x"))
    assert not resume_body.takes_ids(fields(messages=[image, USER]))
    assert not resume_body.takes_ids(fields(messages=[USER], tools=[{}]))
    assert resume_body.takes_ids(fields(messages=[USER], tools=[{}], tool_choice="none"))
    assert resume_body.takes_ids(fields(messages=[USER], tools=[]))
    assert not resume_body.takes_ids(fields(messages="odd"))


def test_ids_of_a_prompt_that_is_given_as_ids() -> None:
    assert resume_body.prompt_ids(fields(prompt=[1, 2])) == [1, 2]
    assert resume_body.prompt_ids(fields(prompt=[[1, 2]])) == [1, 2]
    assert resume_body.prompt_ids(fields(prompt="x")) is None
    assert resume_body.prompt_ids(fields(messages=[USER])) is None


def test_the_prompt_is_rendered_as_the_request_would() -> None:
    asked = fields(
        model="m", messages=[USER], tools=[{"a": 1}], temperature=0, reasoning_effort="low",
        documents=None, chat_template_kwargs={"x": 1}, add_generation_prompt=True,
    )  # fmt: skip
    assert said(resume_body.rendering(asked)) == {
        "model": "m", "messages": [USER], "tools": [{"a": 1}], "add_generation_prompt": True,
        "chat_template_kwargs": {"x": 1, "reasoning_effort": "low", "enable_thinking": True},
    }  # fmt: skip
    plain = fields(model="m", prompt=["x"], add_special_tokens=False)
    assert said(resume_body.rendering(plain)) == {
        "model": "m", "prompt": "x", "add_special_tokens": False,
    }  # fmt: skip


def test_a_chat_goes_on_as_a_completion() -> None:
    asked = fields(
        model="m", messages=[USER], temperature=0.5, seed=7, logprobs=False, stream=True,
        stream_options={"include_usage": True}, tool_choice="none", max_completion_tokens=9,
    )  # fmt: skip
    assert said(resume_body.after_ids(asked, [1, 2], context=100)) == {
        "model": "m", "temperature": 0.5, "seed": 7, "stream": True, "return_token_ids": True,
        "stream_options": {"include_usage": True}, "max_tokens": 9, "prompt": [1, 2],
    }  # fmt: skip
    unlimited = said(resume_body.after_ids(fields(messages=[USER]), [1, 2], context=100))
    assert unlimited["max_tokens"] == 98, "a completion's default is not a chat's"
    completion = fields(prompt="x", max_tokens=3, stop=None)
    assert said(resume_body.after_ids(completion, [1], context=0)) == {
        "prompt": [1], "max_tokens": 3, "stop": None, "return_token_ids": True,
    }  # fmt: skip
