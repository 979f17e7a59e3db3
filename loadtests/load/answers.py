"""Reading what came back: which tokens, and when each."""

from collections.abc import Sequence

import msgspec


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = _Delta()
    message: _Delta = _Delta()
    finish_reason: str | None = None


class _Error(msgspec.Struct):
    code: str | int | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Event).decode


class Answer(msgspec.Struct):
    """The text of a chat's answer and the moment of each of its tokens.

    `complete` says that the answer has come to its end, `error` is the code of an error in it.
    """

    text: str = ""
    times: list[float] = msgspec.field(default_factory=list)
    complete: bool = False
    error: str = ""


def whole(body: bytes, moment: float) -> Answer:
    """Read a response that came at once. Raises msgspec.DecodeError."""
    event = _decode(body)
    if event.error is not None or not event.choices:
        return Answer(error=str(event.error.code) if event.error else "nothing")
    choice = event.choices[0]
    return Answer(choice.message.content or "", [moment], choice.finish_reason is not None)


def streamed(pieces: Sequence[tuple[float, bytes]]) -> Answer:
    """Read server-sent events. A token's moment is that of the last byte of its event.

    Comments are passed over: a service that lets the client wait sends them. Raises
    msgspec.DecodeError.
    """
    answer = Answer()
    words: list[str] = []
    rest = b""
    finished = done = False
    for moment, piece in pieces:
        *events, rest = (rest + piece).split(b"\n\n")
        for event in events:
            if not event.startswith(b"data: "):
                continue
            if event == b"data: [DONE]":
                done = True
                continue
            decoded = _decode(event[6:])
            if decoded.error is not None:
                answer.error = str(decoded.error.code)
            for choice in decoded.choices:
                if choice.delta.content:
                    words.append(choice.delta.content)
                    answer.times.append(moment)
                finished = finished or choice.finish_reason is not None
    answer.text = "".join(words)
    answer.complete = finished and done and not rest
    return answer
