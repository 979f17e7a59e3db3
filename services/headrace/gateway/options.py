"""The part of ``edge.toml`` that edge and command line share: where the store is."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from headrace.runtime import config
from headrace.runtime.config import ConfigError


class StoreOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``[store]``: people, keys, groups, limits and accounts."""

    url: str = ""
    """``sqlite:///gateway.db`` (relative to the file's folder) or
    ``postgresql://user@host/database``; empty is no store: only the keys in this file count."""
    password_file: str = ""
    """For PostgreSQL: holds the password, and nobody but its owner may read it."""
    poll_seconds: Annotated[float, Meta(gt=0, le=5)] = 0.5
    """How often an edge looks for changes: a revoked key is refused after this time at the most."""
    stale_seconds: Annotated[float, Meta(ge=5)] = 600.0
    """After so long without the store its keys are not believed any more; ``inf`` is never."""


def resolved(options: StoreOptions, base: Path) -> StoreOptions:
    """The same with a full URL: an absolute path of SQLite's file, a driver, and the password.

    Raises ConfigError. The result holds a secret and is never shown.
    """
    if not options.url:
        return options
    try:
        url = make_url(options.url)
    except ArgumentError:
        raise ConfigError("store.url: not a URL like sqlite:///gateway.db") from None
    match url.get_backend_name():
        case "sqlite":
            if not url.database or url.database == ":memory:":
                raise ConfigError("store.url: names no file")
            path = config.resolve(base, url.database)
            url = url.set(drivername="sqlite+pysqlite", database=str(path))
        case "postgresql":
            url = url.set(drivername="postgresql+psycopg")
            if options.password_file:
                file = config.resolve(base, options.password_file)
                url = url.set(password=config.read_secret(str(file)))
        case other:
            raise ConfigError(f"store.url: sqlite or postgresql, not {other}")
    return msgspec.structs.replace(options, url=url.render_as_string(hide_password=False))
