"""An installation on disk: one folder for the web machine, one for each cluster.

Nothing of one side's secrets lies in the other side's folder, so each can be copied as it is.
"""

import tomllib
from pathlib import Path
from typing import Final

import msgspec

from headrace.cli import resources
from headrace.cli.setup import credentials, daemon_conf, nats_conf
from headrace.cli.setup.daemon_conf import ApiKey
from headrace.cli.setup.site import Site, SiteCluster
from headrace.gate import script
from headrace.gateway.policy import api_keys

FIRST_KEY: Final = "first"
"""The id of the API key that the first run makes."""


MODELS: Final = "models.d"
"""The catalogue's folder, in a cluster's."""


class File(msgspec.Struct, frozen=True):
    """What is written to one path."""

    text: str
    mode: int = 0o600


class Installed(msgspec.Struct, frozen=True):
    """What `install` has done, for telling the operator."""

    api_key: str
    """The key itself, this once; empty where an earlier one was kept."""
    authorized_keys: dict[str, str]
    """The line for each cluster."""


class AlreadyInstalledError(Exception):
    """There is an installation already, at the path in the text."""


def install(
    directory: Path, site: Site, *, force: bool = False, new_keys: bool = False, api_key: str = ""
) -> Installed:
    """Write the installation of `site` below `directory`.

    An earlier one is refused, or with `force` written anew with its keys kept, unless `new_keys`.
    With `api_key` that key is admitted, and no other.
    Raises AlreadyInstalledError, OSError, ConfigError.
    """
    folders = [directory / "web", *(directory / "clusters" / each.name for each in site.clusters)]
    for folder in folders:
        if not force and folder.exists() and any(folder.iterdir()):
            raise AlreadyInstalledError(str(folder))
    if not directory.exists():  # one that was there before may hold more than ours
        private_directory(directory)
    private_directory(directory / "clusters")
    for folder in folders:
        for each in (folder, folder / "keys", folder / "run"):
            private_directory(each)
    for cluster in site.clusters:
        private_directory(directory / "clusters" / cluster.name / MODELS)
    if site.external:
        private_directory(directory / "web" / MODELS)
    known = credentials.ensure(directory, site, new=new_keys)
    keys: list[ApiKey] = [] if new_keys or api_key else _kept_keys(directory / "web/edge.toml")
    if not keys:
        api_key = api_key or api_keys.mint()
        keys = [ApiKey(id=FIRST_KEY, digest=api_keys.digest(known.api_secret, api_key))]
    old_hosts = _text(directory / "web/known_hosts")
    for name, file in rendered(site, known, keys, old_hosts).items():
        credentials.write_private(directory / name, file.text, file.mode)
    return Installed(
        api_key=api_key,
        authorized_keys={
            each.name: authorized_key(each, known.clusters[each.name]) for each in site.clusters
        },
    )


def rendered(
    site: Site, known: credentials.Credentials, keys: list[ApiKey], old_hosts: str = ""
) -> dict[str, File]:
    """Every file but the secrets themselves, by its path below the installation's directory."""
    files = {
        "web/hub.conf": File(nats_conf.hub(site, known)),
        "web/edge.toml": File(daemon_conf.edge(site, keys)),
        "web/bridge.toml": File(daemon_conf.bridge(site)),
        "web/known_hosts": File(daemon_conf.known_hosts(site, old_hosts)),
    }
    if site.external:
        files |= {
            "web/external.toml": File(daemon_conf.external(site)),
            f"web/{MODELS}/{resources.EXAMPLE_EXTERNAL}": File(resources.example_external()),
        }
    for cluster in site.clusters:
        own = known.clusters[cluster.name]
        folder = f"clusters/{cluster.name}"
        gate = script.render("127.0.0.1", cluster.gate_port, cluster.gate_python)
        files |= {
            f"{folder}/leaf.conf": File(nats_conf.leaf(cluster, own)),
            f"{folder}/scaler.toml": File(daemon_conf.scaler(cluster)),
            f"{folder}/{MODELS}/{resources.EXAMPLE_MODEL}": File(resources.example_model()),
            f"{folder}/worker.toml": File(daemon_conf.example_worker(cluster, site.models)),
            f"{folder}/gate": File(gate, 0o700),
            f"{folder}/authorized_keys": File(authorized_key(cluster, own) + "\n"),
        }
    return files


def authorized_key(cluster: SiteCluster, keys: credentials.ClusterKeys) -> str:
    """The line that lets the bridge in, to the gate and nothing else."""
    return script.authorized_key(cluster.gate_path, keys.tunnel_public)


def private_directory(path: Path) -> None:
    """Make a directory that only its owner may look into."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)


def _kept_keys(path: Path) -> list[ApiKey]:
    try:
        return msgspec.convert(tomllib.loads(_text(path)).get("keys", []), list[ApiKey])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError):
        return []  # not ours, or broken: a new key is made and printed


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
