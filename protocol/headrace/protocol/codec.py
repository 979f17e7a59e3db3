"""Structs to bytes and back. Every message from the bus enters the program through here."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from headrace.protocol import names, subjects
from headrace.protocol.control import Control, Gone
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Accepted, Frame
from headrace.protocol.plan import Plan
from headrace.protocol.requests import VERSION, Preamble, Request
from headrace.protocol.state import WorkerState

_encoder: Final = msgspec.msgpack.Encoder()
_frame: Final[msgspec.msgpack.Decoder[Frame]] = msgspec.msgpack.Decoder(Frame)
_many: Final = msgspec.msgpack.Decoder(list[tuple[str, msgspec.Raw]])
_control: Final[msgspec.msgpack.Decoder[Control]] = msgspec.msgpack.Decoder(Control)
_preamble: Final = msgspec.msgpack.Decoder(Preamble)
_request: Final = msgspec.msgpack.Decoder(Request)
_state: Final = msgspec.msgpack.Decoder(WorkerState)
_plan: Final = msgspec.msgpack.Decoder(Plan)

_UNREADABLE: Final = (msgspec.DecodeError, ValueError, RecursionError)
"""Bytes that are no message; a ValueError is text that is not UTF-8, or a name not admitted."""

Message = Frame | Control | Request | WorkerState | Plan


class UnknownVersionError(HeadraceError):
    """A request in a version that this process does not speak, with what is needed to say so."""

    def __init__(self, preamble: Preamble) -> None:
        super().__init__(
            Code.UNSUPPORTED_VERSION,
            f"The request came in protocol version {preamble.version}; "
            f"this worker speaks {VERSION}.",
        )
        self.preamble = preamble


def encode(message: Message) -> bytes:
    """The bytes of `message`."""
    return _encoder.encode(message)


def decode_frame(data: bytes | msgspec.Raw) -> Frame:
    """A frame with admitted names, or HeadraceError ``bad_message``."""
    try:
        frame = _frame.decode(data)
        if isinstance(frame, Accepted):
            names.process_id(frame.worker)
            names.slug(frame.cluster)
    except _UNREADABLE as error:
        raise _bad("frame") from error
    return frame


def encode_many(frames: Iterable[tuple[str, bytes]]) -> bytes:
    """Encoded frames, each with its request's id, as one message."""
    return _encoder.encode([(request, msgspec.Raw(frame)) for request, frame in frames])


def decode_frames(subject: str, data: bytes) -> Sequence[tuple[str, Frame]]:
    """The frames of a message of ``hr.res.>``, in order, each with the id of its request.

    An id is only as good as the message: look it up, no more. Raises HeadraceError ``bad_message``.
    """
    request = subjects.response_request(subject)
    if request != subjects.MANY:
        return ((request, decode_frame(data)),)
    try:
        many = _many.decode(data)
    except _UNREADABLE as error:
        raise _bad("message of frames") from error
    return [(request, decode_frame(frame)) for request, frame in many]


def decode_control(data: bytes) -> Control:
    """A control message with admitted names, or HeadraceError ``bad_message``."""
    try:
        message = _control.decode(data)
        if isinstance(message, Gone):
            names.process_id(message.edge)
        else:
            names.request_id(message.request)
    except _UNREADABLE as error:
        raise _bad("control message") from error
    return message


def decode_request(data: bytes) -> Request:
    """An envelope whose names are admitted.

    Raises UnknownVersionError for another version, HeadraceError ``bad_message`` for anything else.
    """
    try:
        preamble = _preamble.decode(data)
        names.request_id(preamble.id)
        names.process_id(preamble.edge)
    except _UNREADABLE as error:
        raise _bad("request") from error
    if preamble.version != VERSION:
        raise UnknownVersionError(preamble)
    try:
        request = _request.decode(data)
        names.slug(request.model)
    except _UNREADABLE as error:
        raise _bad("request") from error
    return request


def decode_state(data: bytes) -> WorkerState:
    """A heartbeat whose names are admitted, or HeadraceError ``bad_message``."""
    try:
        state = _state.decode(data)
        names.slug(state.cluster)
        names.slug(state.model)
        names.process_id(state.worker)
    except _UNREADABLE as error:
        raise _bad("worker state") from error
    return state


def decode_plan(data: bytes) -> Plan:
    """A plan whose names are admitted, or HeadraceError ``bad_message``."""
    try:
        plan = _plan.decode(data)
        names.slug(plan.cluster)
        names.slug(plan.model)
        names.model_name(plan.facts.name)
    except _UNREADABLE as error:
        raise _bad("plan") from error
    return plan


def _bad(what: str) -> HeadraceError:
    # The decoder's own message may quote the input: it stays out of the error's text.
    return HeadraceError(Code.BAD_MESSAGE, f"A {what} that could not be read.")
