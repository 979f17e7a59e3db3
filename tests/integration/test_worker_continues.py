"""A worker goes on after what another one has sent, on the simulated engine."""

import struct
from typing import Any

import msgspec
import pytest

from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code
from headrace.protocol.frames import Chunk, End, Fail, Head, Usage
from headrace.protocol.requests import Partial
from loadtests.words import expected_text, indices, prompt_of, token_ids
from tests.support.resume_kit import (
    chunks,
    cuts,
    events,
    go_on,
    goes_on,
    partial_of,
    refused,
    whole,
)
from tests.support.worker_kit import ODD, SIM, Stand

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 12}
TOKENS = {
    "kind": "command",
    "command": (*SIM, "--delay-ms", "25", "--tokens", "12"),
    "continues": "tokens",
}
TEXT = TOKENS | {"continues": "text"}


async def test_the_ids_of_all_tokens_come_beside_the_events(stand: Stand) -> None:
    await stand.worker(engine=TOKENS)
    answer = await whole(stand, CHAT)
    ids = b"".join(chunk.tokens for chunk in chunks(answer))
    expected = token_ids(indices(prompt_of(CHAT), 12))
    assert list(struct.unpack("<12I", ids)) == expected
    assert b'token_ids":[' not in answer.body
    for more in ({"stop": ["x"]}, {"return_token_ids": True}, {"n": 1, "presence_penalty": 1}):
        answer = await whole(stand, CHAT | more)
        assert not any(chunk.tokens for chunk in chunks(answer))
        assert (b'"token_ids":[' in answer.body) is ("return_token_ids" in more)


async def test_the_client_sees_what_it_would_have_seen_without_ids(stand: Stand) -> None:
    worker = await stand.worker(engine=TEXT)
    asked = [(CHAT, Endpoint.CHAT), ({"prompt": "x", "max_tokens": 5}, Endpoint.COMPLETIONS)]
    without = [await whole(stand, body, endpoint) for body, endpoint in asked]
    worker.process.terminate()
    await worker.ended()
    await stand.worker(engine=TOKENS)
    for (body, endpoint), before in zip(asked, without, strict=True):
        answer = await whole(stand, body, endpoint)
        assert any(chunk.tokens for chunk in chunks(answer))
        one, other = events(before.body)[0], events(answer.body)[0]
        for key in ("id", "created"):
            said = f'"{key}":{msgspec.json.encode(other[key]).decode()}'.encode()
            instead = f'"{key}":{msgspec.json.encode(one[key]).decode()}'.encode()
            assert said in answer.body
            answer.frames[:] = [
                msgspec.structs.replace(frame, data=frame.data.replace(said, instead))
                if isinstance(frame, Chunk)
                else frame
                for frame in answer.frames
            ]
        assert answer.body == before.body


@pytest.mark.parametrize("engine", [TOKENS, TEXT], ids=["tokens", "text"])
@pytest.mark.parametrize("limited", [True, False])
async def test_a_chat_goes_on_wherever_it_was_cut(
    stand: Stand, engine: dict[str, Any], limited: bool
) -> None:
    await stand.worker(engine=engine)
    body = CHAT if limited else {"messages": CHAT["messages"]}
    answer = await whole(stand, body, pieces=2)
    assert answer.text == expected_text(CHAT, 12)
    for cut in cuts(answer, step=3):
        rest = await goes_on(stand, answer, cut)
        tokens = b"".join(chunk.tokens for chunk in [*chunks(answer)[:cut], *chunks(rest)])
        assert len(tokens) == (48 if engine is TOKENS else 0), "a third worker can go on"


async def test_a_completion_goes_on_by_its_ids(stand: Stand) -> None:
    await stand.worker(engine=TOKENS)
    for prompt in ("hello", ["hello"], prompt_of({"prompt": "hello"}).ids):
        body = {"prompt": prompt, "max_tokens": 9}
        answer = await whole(stand, body, Endpoint.COMPLETIONS, pieces=7)
        for cut in (1, 5):
            await goes_on(stand, answer, cut)


async def test_where_ids_are_missing_the_text_does(stand: Stand) -> None:
    await stand.worker(engine=TOKENS)
    answer = await whole(stand, CHAT, pieces=8)
    sent = partial_of(chunks(answer)[:6])
    for tokens in (b"", sent.tokens[:-4], sent.tokens[4:] + b"\0\0\0\0"):
        rest = await goes_on(stand, answer, 6, tokens=tokens)
        assert not any(chunk.tokens for chunk in chunks(rest))
    parts = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    for more in ({"messages": parts}, {"tools": [{"type": "function"}]}):
        answer = await whole(stand, CHAT | more, pieces=8)
        rest = await goes_on(stand, answer, 6)
        assert not any(chunk.tokens for chunk in chunks(rest))


async def test_ids_that_run_ahead_of_the_text_are_left_out(stand: Stand) -> None:
    """A half character's, as the text of ids ends; here the sim has none, so it is all or text."""
    await stand.worker(engine=TOKENS)
    answer = await whole(stand, CHAT, pieces=10)
    ahead = b"".join(chunk.tokens for chunk in chunks(answer)[:8])
    await goes_on(stand, answer, 6, tokens=ahead)


async def test_what_had_no_text_begins_anew(stand: Stand) -> None:
    await stand.worker(engine=TOKENS)
    answer = await whole(stand, CHAT)
    role = b"".join(answer.body.partition(b"\n\n")[:2])
    said = events(role)[0]
    rest = await go_on(stand, answer, Partial(len(role), said["id"], said["created"]))
    assert role + rest.body == answer.body
    anew = await go_on(stand, answer, Partial(0))
    assert anew.text == answer.text
    assert b'"role":"assistant"' in anew.body, "nothing had been sent"
    assert any(chunk.tokens for chunk in chunks(anew))


async def test_what_has_all_its_tokens_only_ends(stand: Stand) -> None:
    await stand.worker(engine=TOKENS)
    answer = await whole(stand, CHAT)
    full = partial_of([Chunk(1, 0, answer.body.partition(b'data: {"id"')[0])])
    everything = answer.body.split(b"\n\n")
    until_usage = b"\n\n".join(everything[:-3]) + b"\n\n"
    tokens = b"".join(chunk.tokens for chunk in chunks(answer))
    full = partial_of([Chunk(1, 0, until_usage, tokens)])
    assert full.finish == "length"
    rest = await go_on(stand, answer, full)
    assert isinstance(rest.frames[1], Head)
    end = rest.frames[-1]
    assert isinstance(end, End)
    assert end.usage == Usage(16, 12)
    (usage,) = events(rest.body)
    assert usage["usage"] == {"prompt_tokens": 16, "total_tokens": 28, "completion_tokens": 12}
    assert (usage["id"], usage["choices"]) == (full.id, [])
    silent = await go_on(stand, answer, full, stream_options=None)
    assert silent.body == b"data: [DONE]\n\n"
    used_up = await go_on(stand, answer, msgspec.structs.replace(full, finish=""))
    last, usage = events(used_up.body)
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["usage"]["completion_tokens"] == 12


@pytest.mark.parametrize("engine", [TOKENS, TEXT | {"continues": "no"}], ids=["tokens", "no"])
async def test_what_cannot_be_continued_fails(stand: Stand, engine: dict[str, Any]) -> None:
    await stand.worker(engine=engine)
    answer = await whole(stand, CHAT, pieces=5)
    fails = [await refused(stand, answer, **more) for more in ({"n": 2}, {"logprobs": True})]
    if engine is TOKENS:
        assert [fail.message for fail in fails] == [
            f"The answer can't be continued: the request asks for `{name}`."
            for name in ("n", "logprobs")
        ]
        partial = msgspec.structs.replace(partial_of(chunks(answer)[:3]), text="a\ufffd")
        rest = await go_on(stand, answer, partial)
        assert isinstance(rest.frames[-1], Fail)
        fails.append(rest.frames[-1])
        # The engine's own refusal is no answer in the middle of a stream.
        fails.append(await refused(stand, answer, max_tokens=10**9))
        assert "HTTP 400" in fails[-1].message
    for fail in fails:
        assert (fail.code, fail.retryable) == (Code.NOT_CONTINUED, False)
    await stand.edge.emptied()


async def test_an_engine_that_fails_at_a_continuation_fails(stand: Stand) -> None:
    await stand.worker(engine={"kind": "command", "command": ODD, "continues": "text"})
    answer = await whole(stand, CHAT | {"odd": "torn"})
    fail = await refused(stand, answer, odd="slow", seconds=0)
    assert (fail.code, fail.retryable) == (Code.NOT_CONTINUED, False)
