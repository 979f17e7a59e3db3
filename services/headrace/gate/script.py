"""The gate as it is put on a service node: one executable file, and the line that admits its key.

Both end up where a shell or sshd reads them, so both admit only what neither can misread.
"""

import base64
import binascii
import re
from pathlib import Path
from typing import Final

from headrace.gate import main

COMMENT: Final = "headrace-tunnel"

_SHEBANG_LENGTH: Final = 127
"""What kernels before 5.1 read of a first line."""

# sshd gives the command to the account's login shell, so what a shell would treat in any special
# way is refused: quotes, blanks, $, ~, *, a leading dash and whatever else is not listed here.
_PATH: Final = re.compile(r"(/[A-Za-z0-9_.+@-]+)+", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9:]([A-Za-z0-9.:-]{0,252})", re.ASCII)
_KEY: Final = re.compile(r"(ssh-ed25519) ([A-Za-z0-9+/]+=*)(?: .*)?", re.ASCII)


def render(host: str, port: int, python: str) -> str:
    """The text of a gate that joins its caller to `host`:`port` and is run by `python`.

    `python` is the absolute path of an interpreter, 3.6 or later. Raises ValueError.
    """
    if _HOST.fullmatch(host) is None:
        raise ValueError(f"not a host name or address: {host!r}")
    if not 1 <= port <= 65535:
        raise ValueError(f"not a port: {port}")
    # Isolated and without site: neither the environment nor a user's packages reach the gate, and
    # it starts in half the time.
    shebang = f"#!{_safe(python)} -IS"
    if len(shebang) > _SHEBANG_LENGTH:
        raise ValueError(f"too long a path for a script's first line: {python}")
    source = Path(main.__file__).read_text(encoding="utf-8")
    return f"{shebang}\n{source}\n\nsys.exit(run({host!r}, {port:d}))\n"


def authorized_key(command: str, public_key: str) -> str:
    """The line of ``authorized_keys`` that lets `public_key` run `command` and do nothing else.

    `command` is the absolute path of the gate, `public_key` an OpenSSH ed25519 public key, whose
    comment is replaced. Raises ValueError.
    """
    algorithm, key = _ed25519(public_key)
    return f'restrict,command="{_safe(command)}" {algorithm} {key} {COMMENT}'


def _safe(path: str) -> str:
    if _PATH.fullmatch(path) is None:
        raise ValueError(f"not an absolute path of letters, digits and /_.+@- alone: {path!r}")
    return path


def _ed25519(public_key: str) -> tuple[str, str]:
    line = public_key.strip()
    match = _KEY.fullmatch(line)
    if match is None or not line.isprintable():
        raise ValueError("not an OpenSSH ed25519 public key on one line")
    algorithm, key = match.groups()
    try:
        blob = base64.b64decode(key, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not an ed25519 public key: {error}") from error
    # RFC 8709: a string with the algorithm's name, then a string of 32 bytes.
    if len(blob) != 51 or not blob.startswith(b"\0\0\0\x0bssh-ed25519\0\0\0\x20"):
        raise ValueError("not an ed25519 public key: wrong length or algorithm")
    return algorithm, key
