"""Cookies: set so that scripts and other sites do not get them; and a signed one. Pure."""

import base64
import hmac
from http.cookies import CookieError, SimpleCookie
from typing import Final, TypeVar

import msgspec

from headrace.gateway.policy import api_keys

T = TypeVar("T")

MAX_BYTES: Final = 4096


def read(header: bytes | None, name: str) -> str:
    """The value of a cookie, empty where there is none."""
    if header is None or len(header) > MAX_BYTES:
        return ""
    try:
        found = SimpleCookie(header.decode("latin-1")).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def write(name: str, value: str, *, secure: bool, seconds: int) -> tuple[bytes, bytes]:
    """The header that sets a cookie for so many seconds; 0 takes it away."""
    parts = [f"{name}={value}", "Path=/", "HttpOnly", "SameSite=Lax", f"Max-Age={seconds}"]
    if secure:
        parts.append("Secure")
    return b"set-cookie", "; ".join(parts).encode("latin-1")


def named(name: str, *, secure: bool) -> str:
    """A cookie's full name. Browsers take ``__Host-`` only from this very host, by https."""
    return f"__Host-{name}" if secure else name


def seal(secret: bytes, value: msgspec.Struct) -> str:
    """A value that only we can have written. It can be read by whoever has it."""
    body = base64.urlsafe_b64encode(msgspec.json.encode(value)).decode().rstrip("=")
    return f"{body}.{_mark(secret, body)}"


def unseal(secret: bytes, text: str, kind: type[T]) -> T | None:
    """What was sealed; None for anything else."""
    body, _, mark = text.partition(".")
    if not text.isascii() or not hmac.compare_digest(mark, _mark(secret, body)):
        return None
    try:
        return msgspec.json.decode(
            base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=kind
        )
    except (ValueError, msgspec.DecodeError):
        return None


def _mark(secret: bytes, body: str) -> str:
    return api_keys.digest(secret, f"sealed:{body}")
