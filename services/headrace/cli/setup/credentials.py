"""The secrets of an installation: made once, kept in files that only their owner may read.

Both sides' seeds are made here, but each lies in the folder of the machine that uses it, and the
other side's files get the public half alone.
"""

import os
from pathlib import Path
from typing import Final

import msgspec
import nkeys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from headrace.cli.setup.site import Site
from headrace.gateway.policy import api_keys

NKEY_SEED_BYTES: Final = 32


class NKey(msgspec.Struct, frozen=True):
    """A user of NATS."""

    seed: str
    public: str


class ClusterKeys(msgspec.Struct, frozen=True):
    """What one cluster adds."""

    link: NKey
    worker: NKey
    scaler: NKey
    tunnel_public: str


class Credentials(msgspec.Struct, frozen=True):
    """All of an installation's."""

    edge: NKey
    hub_worker: NKey
    api_secret: bytes
    clusters: dict[str, ClusterKeys]


def link_file(cluster: str) -> str:
    """The seed of the link's user, in the web machine's folder."""
    return f"keys/{cluster}.link.nk"


def tunnel_file(cluster: str) -> str:
    """The private key of the tunnel, in the web machine's folder."""
    return f"keys/{cluster}.tunnel"


def ensure(directory: Path, site: Site, *, new: bool = False) -> Credentials:
    """Read the credentials of `site` below `directory`, making what is missing; all if `new`."""
    web = directory / "web"
    clusters = {}
    for cluster in site.clusters:
        own = directory / "clusters" / cluster.name
        clusters[cluster.name] = ClusterKeys(
            link=_nkey(web / link_file(cluster.name), new),
            worker=_nkey(own / "keys/worker.nk", new),
            scaler=_nkey(own / "keys/scaler.nk", new),
            tunnel_public=ssh_key(web / tunnel_file(cluster.name), new=new),
        )
    secret = web / "keys/api.secret"
    if new:
        secret.unlink(missing_ok=True)
    return Credentials(
        edge=_nkey(web / "keys/edge.nk", new),
        hub_worker=_nkey(web / "keys/hub-worker.nk", new),
        api_secret=api_keys.load_secret(secret)
        if secret.exists()
        else api_keys.create_secret(secret),
        clusters=clusters,
    )


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Put `text` at `path`, whole or not at all, and never readable by others on the way."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(descriptor, mode)
    part.replace(path)


def _nkey(path: Path, new: bool) -> NKey:
    if new or not path.exists():
        seed = nkeys.encode_seed(os.urandom(NKEY_SEED_BYTES), nkeys.PREFIX_BYTE_USER).decode()
        write_private(path, f"{seed}\n")
    seed = path.read_text(encoding="ascii").strip()
    public: bytes = nkeys.from_seed(bytearray(seed.encode())).public_key
    return NKey(seed=seed, public=public.decode())


def ssh_key(path: Path, *, new: bool = False) -> str:
    """The public half of the ed25519 key at `path`, in OpenSSH's format; makes what is missing."""
    if new or not path.exists():
        private = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
        )
        write_private(path, private.decode())
    key = load_ssh_private_key(path.read_bytes(), password=None)
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
