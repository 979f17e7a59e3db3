"""A provider's stream on its way to the client: its usage noted, its errors not passed on."""

from typing import Final

import msgspec

from headrace.protocol.errors import Code, HeadraceError
from headrace.worker.provider.error_mapping import FAILED
from headrace.worker.stream import sse

_ERROR: Final = b'"error"'
_NAMED: Final = b"event: error"
_NOTHING: Final = (b"null", b'""', b"{}", b"false")


class _Told(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw(b"null")
    type: str | None = None


_told: Final = msgspec.json.Decoder(_Told)


def _is_error(event: bytes) -> bool:
    """Whether an event tells an error, in any of the shapes that are seen."""
    if event.lstrip().startswith(_NAMED):
        return True
    if _ERROR not in event:
        return False
    data = b"".join(line[5:].strip() for line in event.splitlines() if line[:5] == b"data:")
    try:
        told = _told.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return True  # with the word, and not of the API
    return told.type == "error" or bytes(told.error) not in _NOTHING


class ProviderReader(sse.UsageReader):
    """As any reader, but an event that tells an error ends the stream with one of ours.

    A model's text never looks like it, for its quotes would be escaped.
    """

    def read(self, events: bytes) -> bytes:
        """`events` as they are for the client. Raises ``engine_failed``."""
        if _ERROR in events or _NAMED in events:
            for event in sse.split(events):
                if _is_error(event):
                    raise HeadraceError(Code.ENGINE_FAILED, FAILED, retryable=False)
        return super().read(events)
