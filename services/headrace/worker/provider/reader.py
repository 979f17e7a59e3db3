"""A provider's stream on its way to the client: its usage noted, its errors not passed on."""

from typing import Final

from headrace.protocol.errors import Code, HeadraceError
from headrace.worker import sse
from headrace.worker.provider.verdict import FAILED

_ERROR: Final = b'"error"'
_BEGINS: Final = (b'data: {"error":', b'data:{"error":', b'data: {"error" :', b"event: error")


class ProviderReader(sse.UsageReader):
    """As any reader, but an event that tells an error ends the stream with one of ours.

    A model's text never looks like it, for its quotes would be escaped.
    """

    def read(self, events: bytes) -> bytes:
        """`events` as they are for the client. Raises ``engine_failed``."""
        if _ERROR in events or b"event: error" in events:
            for event in sse.split(events):
                if event.lstrip().startswith(_BEGINS):
                    raise HeadraceError(Code.ENGINE_FAILED, FAILED, retryable=False)
        return super().read(events)
