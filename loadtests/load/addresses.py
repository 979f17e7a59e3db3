"""Where the load goes."""

from urllib.parse import urlsplit

import msgspec


class Address(msgspec.Struct, frozen=True):
    """A Unix socket, or else a host and a port; and what stands before ``/v1/…`` in the path."""

    uds: str = ""
    host: str = ""
    port: int = 0
    prefix: str = ""


def parse(text: str) -> Address:
    """Read ``unix:/run/engine.sock`` or ``http://127.0.0.1:8080``, with or without ``/v1``.

    Raises ValueError for anything else.
    """
    if text.startswith("unix:"):
        return Address(uds=text.removeprefix("unix:").removeprefix("//"))
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"not an address for a load: {text!r}")
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    return Address(host=parts.hostname, port=parts.port or 80, prefix=prefix)
