"""What the simulated engine says is a function of the request alone, and no fault goes unseen."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.words import (
    WORDS,
    expected_text,
    expected_vector,
    indices,
    prompt_of,
    text_of,
    token_ids,
)

contents = st.text(max_size=40)


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def test_the_words_differ_and_none_is_part_of_two_others() -> None:
    assert len(set(WORDS)) == 256
    assert not any(" " in word for word in WORDS)


@given(contents, st.integers(0, 200), st.integers(0, 200))
def test_a_shorter_answer_begins_a_longer_one(text: str, one: int, two: int) -> None:
    short, long = sorted((one, two))
    assert expected_text(chat(text), long).startswith(expected_text(chat(text), short))
    assert len(expected_text(chat(text), long).split()) == long


def test_the_answer_depends_on_the_prompt_and_on_nothing_else() -> None:
    assert expected_text(chat("a"), 20) != expected_text(chat("b"), 20)
    other = chat("a", temperature=1, stream=True, max_tokens=3, model="m")
    assert expected_text(chat("a"), 20) == expected_text(other, 20)
    respelled = json.loads('{"messages": [{"content": "\\u0061", "role":"user"}]}')
    assert expected_text(chat("a"), 20) == expected_text(respelled, 20)


@given(contents, st.integers(1, 150), st.integers(1, 150))
def test_a_chat_goes_on_from_its_partial_text(text: str, sent: int, more: int) -> None:
    partial = expected_text(chat(text), sent)
    resumed = chat(text, continue_final_message=True, add_generation_prompt=False)
    resumed["messages"].append({"role": "assistant", "content": partial})
    assert partial + expected_text(resumed, more) == expected_text(chat(text), sent + more)


@given(contents, st.integers(1, 150), st.integers(1, 150))
def test_an_answer_goes_on_from_token_ids(text: str, sent: int, more: int) -> None:
    prompt = prompt_of(chat(text))
    ids = prompt.ids + token_ids(indices(prompt, sent))
    assert len(prompt.ids) == prompt.tokens
    resumed = {"prompt": ids}
    whole = expected_text(chat(text), sent + more)
    assert expected_text(chat(text), sent) + expected_text(resumed, more) == whole


def test_other_ids_are_a_prompt_like_any_other() -> None:
    assert prompt_of({"prompt": [1, 2, 3]}).sent == 0
    assert prompt_of({"prompt": list(range(600, 640))}).sent == 0


def test_a_body_without_a_prompt_is_refused() -> None:
    with pytest.raises(KeyError):
        prompt_of({"model": "m"})


def test_a_vector_is_exact_in_32_bits() -> None:
    vector = expected_vector("a", 384)
    assert len(vector) == 384
    assert all(-1 <= x < 1 and x * 128 == int(x * 128) for x in vector)
    assert vector != expected_vector("b", 384)


def test_text_joins() -> None:
    assert text_of(b"\x00\x01") == f"{WORDS[0]} {WORDS[1]}"
    assert text_of(b"\x00", sent=1) == f" {WORDS[0]}"
    assert text_of(b"", sent=1) == ""
