"""The members of a client's JSON object, each as it was written."""

from typing import Final

import msgspec
from msgspec import Raw

from headrace.protocol.errors import Code, HeadraceError

_object: Final = msgspec.json.Decoder(dict[str, Raw])


def parse(body: bytes | Raw) -> dict[str, Raw]:
    """The members; a key that came twice counts once.

    Raises HeadraceError ``invalid_json`` for what is not a JSON object.
    """
    try:
        return _object.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise HeadraceError(Code.INVALID_JSON, "The body is not a JSON object.") from None
