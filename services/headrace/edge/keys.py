"""Who a request comes from: API keys, known only by their digests."""

from collections.abc import Iterable
from typing import Final

import msgspec

from headrace.edge.options import KeyOptions
from headrace.edge.patience import DEFAULT, Keepalive, Patience
from headrace.protocol.errors import Code, HeadraceError
from headrace.runtime import apikeys

_BEARER: Final = b"bearer "
MAX_HEADER: Final = 512
"""Our keys are far shorter: what is longer is not looked at."""


class Principal(msgspec.Struct, frozen=True):
    """Whose request it is. `tenant` is a pseudonym: it may leave this machine, the key's id not."""

    key_id: str
    tenant: str
    patience: Patience = DEFAULT
    keepalive: Keepalive = Keepalive.COMMENT


class KeyRing:
    """Every key that opens the door."""

    def __init__(self, secret: bytes, keys: Iterable[KeyOptions]) -> None:
        self._secret = secret
        self._principals = {
            key.digest: Principal(
                key.id,
                apikeys.digest(secret, "tenant:" + key.id)[:16],
                key.patience,
                key.keepalive,
            )
            for key in keys
        }

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Principal:
        """Whose key the ``Authorization`` header holds. Raises ``invalid_api_key``.

        What is compared is an HMAC under our secret, so the time it takes tells nothing of a key.
        """
        given = [value for name, value in headers if name == b"authorization"]
        if not given:
            raise HeadraceError(
                Code.INVALID_API_KEY,
                "You didn't provide an API key. Send it as `Authorization: Bearer YOUR_KEY`.",
            )
        header = given[0]
        if len(given) == 1 and len(header) <= MAX_HEADER and header[:7].lower() == _BEARER:
            key = header[7:].strip().decode("latin-1")
            if apikeys.well_formed(key):
                principal = self._principals.get(apikeys.digest(self._secret, key))
                if principal is not None:
                    return principal
        raise HeadraceError(Code.INVALID_API_KEY, "Incorrect API key provided.")
