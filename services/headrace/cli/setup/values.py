"""What an operator may give on the command line, and the only functions that admit it.

These values become parts of configuration files, of paths and of a line of ``authorized_keys``
(invariant 7). Each function returns the admitted value or raises ValueError with a sentence.
"""

import ipaddress
import re
from pathlib import Path
from typing import Final

from headrace.protocol.names import Slug, slug

MAX_MODEL_NAME: Final = 200

_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", re.ASCII)
# What neither a shell, nor sshd, nor nats-server's configuration treats in any special way.
_PLAIN_PATH: Final = re.compile(r"(/[A-Za-z0-9_.+@-]+)+", re.ASCII)
_QUOTABLE_PATH: Final = re.compile(r"[^\x00-\x1f\x7f\"\\$]+")
_HOST_KEY: Final = re.compile(
    r"(?P<algorithm>ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) (?P<key>[A-Za-z0-9+/]+=*)",
    re.ASCII,
)
_TARGET: Final = re.compile(r"(?P<user>[^@]*)@(?P<host>\[[^]]*\]|[^:]*)(:(?P<port>[0-9]{1,5}))?")


def cluster(text: str) -> Slug:
    """A cluster's name."""
    return slug(text)


def port(number: int) -> int:
    """A TCP port."""
    if not 1 <= number <= 65535:
        raise ValueError(f"not a port (1 to 65535): {number}")
    return number


def host(text: str) -> str:
    """A host name or an IP address, without brackets."""
    try:
        return ipaddress.ip_address(text).compressed
    except ValueError:
        pass
    # A number with dots is a mistyped address, never a name.
    if len(text) > 253 or _HOST.fullmatch(text) is None or text.rpartition(".")[2].isdigit():
        raise ValueError(f"not a host name or address: {text[:80]!r}")
    return text


def address(host_: str, port_: int) -> str:
    """``host:port``, with brackets where the host is an IPv6 address."""
    admitted = host(host_)
    return f"[{admitted}]:{port(port_)}" if ":" in admitted else f"{admitted}:{port(port_)}"


def user(text: str) -> str:
    """An account's name on a cluster."""
    if _USER.fullmatch(text) is None:
        raise ValueError(f"not an account's name: {text[:80]!r}")
    return text


def plain_path(text: str) -> str:
    """An absolute path that needs no quoting anywhere."""
    if _PLAIN_PATH.fullmatch(text) is None or ".." in Path(text).parts:
        raise ValueError(f"not an absolute path of letters, digits and /_.+@- alone: {text!r}")
    return text


def quotable_path(text: str) -> str:
    r"""A path that may stand between double quotes: nothing ends them, no ``\`` and no ``$``."""
    if _QUOTABLE_PATH.fullmatch(text) is None:
        raise ValueError(f'a path may hold no control character, ", \\ or $: {text!r}')
    return text


def model_name(text: str) -> str:
    """A model's name as clients say it."""
    if not 0 < len(text) <= MAX_MODEL_NAME or not text.isprintable():
        raise ValueError(f"a model's name has 1 to {MAX_MODEL_NAME} printable characters")
    return text


def target(text: str) -> tuple[str, str, int]:
    """``USER@HOST[:PORT]`` as user, host and port, which is 22 if not given."""
    match = _TARGET.fullmatch(text)
    if match is None:
        raise ValueError(f"not like USER@HOST or USER@HOST:PORT: {text[:80]!r}")
    return (
        user(match["user"]),
        host(match["host"].strip("[]")),
        port(int(match["port"] or 22)),
    )


def host_key(text: str) -> str:
    """``algorithm key`` out of a line of ssh-keyscan, of known_hosts or of a ``.pub`` file."""
    match = _HOST_KEY.search(text)
    if match is None or not text.isprintable():
        raise ValueError("not an SSH host key on one line, such as 'ssh-ed25519 AAAAC3…'")
    return f"{match['algorithm']} {match['key']}"
