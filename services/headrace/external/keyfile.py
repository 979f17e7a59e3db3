"""A provider's API key, from its file alone: read again when the file has changed."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from headrace.runtime import config
from headrace.runtime.config import ConfigError

PLACE: Final = "$CREDENTIALS_DIRECTORY"
"""Where systemd puts what a unit's ``LoadCredential=`` names."""

MAX_BYTES: Final = 4096

PRIVATE: Final = 0o077
OF_SYSTEMD: Final = 0o007
"""Its credentials lie in a folder of the unit's own, and their ACL for the unit's user shows as
bits of the group."""


def place(base: Path, path: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The file that `path` means, in a configuration that lies in `base`. Raises ConfigError."""
    if path == PLACE or path.startswith(f"{PLACE}/"):
        folder = environ.get(PLACE[1:], "")
        if not folder:
            raise ConfigError(f"{path}: {PLACE[1:]} is not set; systemd's LoadCredential= sets it")
        path = folder + path.removeprefix(PLACE)
    return config.resolve(base, path)


class KeyFile:
    """The key as the file has it now."""

    def __init__(self, path: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._path = path
        own = environ.get(PLACE[1:], "")
        self._forbidden = OF_SYSTEMD if own and path.is_relative_to(own) else PRIVATE
        self._seen: tuple[int, int, int] | None = None
        self._key = ""

    @property
    def last(self) -> str:
        """The key as it was last read; empty before."""
        return self._key

    @property
    def key(self) -> str:
        """Read the key, if the file is another than before. Raises ConfigError, without the key.

        It is looked at for each request; a stat is nothing beside a request to a provider.
        """
        try:
            found = self._path.stat()
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be read: {error.strerror}") from error
        seen = (found.st_mtime_ns, found.st_ino, found.st_mode)
        if seen != self._seen:
            if found.st_size > MAX_BYTES:
                raise ConfigError(f"{self._path}: too large for a key")
            key = config.read_secret(str(self._path), self._forbidden)
            # It becomes part of a header: what is no printable ASCII could end it.
            if not key.isascii() or not key.isprintable() or " " in key:
                raise ConfigError(f"{self._path}: is not one key on one line")
            self._key, self._seen = key, seen
        return self._key
