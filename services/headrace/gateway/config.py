"""What the command line needs of ``edge.toml``: the store, the secret, and the keys in the file."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from headrace.gateway.options import StoreOptions, resolved
from headrace.gateway.policy import api_keys
from headrace.runtime import config
from headrace.runtime.config import ConfigError


class _Key(msgspec.Struct, frozen=True):
    id: str


class _EdgeTable(msgspec.Struct, frozen=True):
    """Of the edge's options those that count here: the edge itself checks the rest."""

    secret_file: str
    store: StoreOptions = StoreOptions()
    keys: tuple[_Key, ...] = ()


class GatewayConfig(msgspec.Struct, frozen=True):
    """Where people and keys of one installation are kept."""

    config: Path
    store: StoreOptions
    secret: bytes
    static: tuple[str, ...]
    """The ids of the keys that are in the edge's file."""


def load(path: Path, environ: Mapping[str, str]) -> GatewayConfig:
    """The site of an ``edge.toml``. Raises ConfigError."""
    edge = config.load(path, _EdgeTable, environ, "edge")
    if not edge.store.url:
        raise ConfigError(
            f"{path}: it names no store. Add the lines [store] and url = "
            '"sqlite:///gateway.db", and start the edge again'
        )
    return GatewayConfig(
        config=path,
        store=resolved(edge.store, path.parent),
        secret=api_keys.load_secret(config.resolve(path.parent, edge.secret_file)),
        static=tuple(key.id for key in edge.keys),
    )
