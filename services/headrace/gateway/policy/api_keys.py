"""API keys: how they look, and what of them is at rest.

A key is ``hr_``, then 256 random bits in base 62 (43 characters), then the CRC-32 of all that in
base 62 (6 characters). The prefix lets secret scanners find a leaked key; the checksum refuses a
mistyped one without a look at any table. At rest there is only an HMAC-SHA-256 of the key under a
secret of the server: a list of digests alone is worth nothing. A slow password hash would add
nothing, for a key is random and not guessed.
"""

import hmac
import os
import re
import secrets
import string
import zlib
from pathlib import Path
from typing import Final

from headrace.runtime.config import ConfigError, read_secret

PREFIX: Final = "hr_"

SECRET_BYTES: Final = 32

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_BITS: Final = 256
_RANDOM_LENGTH: Final = 43
"""62 ** 43 is the first power that exceeds 2 ** 256."""
_CHECKSUM_LENGTH: Final = 6
"""62 ** 6 exceeds 2 ** 32."""

_KEY: Final = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECKSUM_LENGTH}}}", re.ASCII)


def mint() -> str:
    """A fresh key from the system's random source. Show it once and keep only its digest."""
    body = PREFIX + _base62(secrets.randbits(_RANDOM_BITS), _RANDOM_LENGTH)
    return body + _checksum(body)


def well_formed(key: str) -> bool:
    """Whether `key` has the form of a key, checksum included. Says nothing of its validity."""
    if _KEY.fullmatch(key) is None:
        return False
    return _checksum(key[:-_CHECKSUM_LENGTH]) == key[-_CHECKSUM_LENGTH:]


def digest(secret: bytes, key: str) -> str:
    """The HMAC-SHA-256 of `key` under the server's `secret`, in hex."""
    return hmac.digest(secret, key.encode(), "sha256").hex()


def create_secret(path: Path) -> bytes:
    """Write a fresh server secret to `path`, which must not exist, for the owner alone."""
    secret = secrets.token_bytes(SECRET_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{secret.hex()}\n")
    return secret


def load_secret(path: Path) -> bytes:
    """The server secret at `path`. Raises ConfigError for a missing, open or malformed file."""
    try:
        secret = bytes.fromhex(read_secret(str(path)))
    except ValueError:
        secret = b""
    if len(secret) < SECRET_BYTES:
        raise ConfigError(f"{path}: not a secret of {SECRET_BYTES} bytes in hex")
    return secret


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, rest = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits))
