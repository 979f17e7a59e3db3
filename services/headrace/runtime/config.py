"""One options Struct per process, from a TOML file. The environment overrides and brings secrets.

``HEADRACE_EDGE__PORT=9000`` overrides ``port`` of the edge's options; a further double underscore
goes one table down (``HEADRACE_EDGE__BUS__URL``). A value is read as TOML where it is TOML and as
a plain string otherwise.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


class ConfigError(Exception):
    """The configuration can't be used; the text says which file, where and why."""


def load(path: Path | None, options: type[T], environ: Mapping[str, str], process: str) -> T:
    """The options of `process` from the TOML file at `path`, overridden by `environ`.

    Relative paths in the file stay as they are: see `resolve`. Raises ConfigError.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from error
    override(table, environ, f"HEADRACE_{process.upper()}__")
    try:
        return msgspec.convert(table, options)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path or 'configuration'}: {error}") from error


def resolve(base: Path, path: str) -> Path:
    """`path` as a file of the configuration means it: ``~`` is the home, and a relative path begins
    at `base`, the configuration file's folder."""
    return (base / Path(path).expanduser()).absolute()


def override(table: dict[str, Any], environ: Mapping[str, str], prefix: str) -> None:
    """Put every variable that begins with `prefix` into `table`, in place."""
    for name in sorted(environ):
        if not name.startswith(prefix):
            continue
        *parents, key = name.removeprefix(prefix).lower().split("__")
        inner = table
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{name}: {parent} is not a table")
        inner[key] = value_of(environ[name])


def value_of(text: str) -> Any:
    """The TOML value that `text` spells, or `text` itself."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def read_secret(path: str, forbidden: int = 0o077) -> str:
    """The one line of a credentials file, which nobody but its owner may read.

    `forbidden` are the bits of its mode that must not be set.

    Raises ConfigError where the file is missing, empty or open to others.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
        secret = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    if mode & forbidden:
        raise ConfigError(f"{file}: others may read this secret; run: chmod 600 {file}")
    if not secret:
        raise ConfigError(f"{file}: is empty")
    return secret
