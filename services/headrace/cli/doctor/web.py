"""Looks at the web machine's side."""

import os
import stat
from pathlib import Path

import msgspec

from headrace.cli import status
from headrace.cli.doctor import checks
from headrace.cli.doctor.finding import Finding, bad, ok
from headrace.cli.http import HttpError, get
from headrace.external import folder as external
from headrace.external import keyfile
from headrace.runtime import config
from headrace.runtime.config import ConfigError


class EdgeFile(msgspec.Struct, frozen=True):
    """What of ``edge.toml`` one needs to find the edge."""

    host: str = "127.0.0.1"
    port: int = 8080
    external: str = ""


class BridgeEntry(msgspec.Struct, frozen=True):
    """A cluster, as the bridge is told of it."""

    name: str
    host: str
    port: int = 22


class BridgeFile(msgspec.Struct, frozen=True):
    """What of ``bridge.toml`` one needs to look at the bridge."""

    clusters: tuple[BridgeEntry, ...] = ()
    metrics_port: int = 0


def look(folder: Path) -> list[Finding]:
    """Every hop of the web machine whose files are in `folder`."""
    try:
        edge = config.load(folder / "edge.toml", EdgeFile, os.environ, "edge")
        bridge = config.load(folder / "bridge.toml", BridgeFile, os.environ, "bridge")
    except ConfigError as error:
        return [bad("configuration", str(error), "edit it; `headrace init` writes an example")]
    found = [ok("configuration", f"edge.toml and bridge.toml in {folder} can be read")]
    found += _keys(folder / "keys")
    found += _external(folder, edge.external)
    found += _known_hosts(folder / "known_hosts", bridge)
    # One that listens everywhere is also here.
    host = "127.0.0.1" if edge.host in {"0.0.0.0", "::"} else edge.host
    found.append(look_at_edge(f"http://{host}:{edge.port}"))
    return [*found, *_bridge(bridge)]


def look_at_edge(url: str) -> Finding:
    """The API at `url`."""
    seen = status.look(url, "")
    return checks.edge(url, seen["alive"], seen["ready"], seen["reason"])


def _keys(folder: Path) -> list[Finding]:
    if not folder.is_dir():
        return [bad("keys", f"{folder} is not there", "copy the web folder of `headrace init`")]
    open_ = [
        path
        for path in (folder, *sorted(folder.iterdir()))
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    found = [
        bad("keys", f"{path} is open to others", f"chmod {'700' if path == folder else '600'} it")
        for path in open_
    ]
    return found or [ok("keys", f"{folder}: nobody else may read them")]


def _external(folder: Path, place: str) -> list[Finding]:
    """The files of external models and their keys, which nobody is asked about here."""
    if not place:
        return []
    models = config.resolve(folder, place)
    try:
        files = external.load_all(models)
    except ConfigError as error:
        return [bad("external models", str(error), f"headrace models check {models}")]
    found = []
    for slug, file in files.items():
        if file.engine.key_file.startswith(keyfile.PLACE):
            continue  # only the unit itself sees it
        try:
            _ = keyfile.KeyFile(keyfile.place(models, file.engine.key_file)).key
        except ConfigError as error:
            found.append(bad(f"key of {slug}", str(error), "put the provider's key there, 0600"))
    return found or [ok("external models", f"{models}: {len(files)}, each with a budget")]


def _known_hosts(file: Path, bridge: BridgeFile) -> list[Finding]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    known = {
        name for line in lines if line and line[0] != "#" for name in line.split()[0].split(",")
    }
    found = []
    for each in bridge.clusters:
        name = each.host if each.port == 22 else f"[{each.host}]:{each.port}"
        if name not in known:
            found.append(
                bad(
                    f"host key of {each.name}",
                    f"{file} has none for {name}: the bridge will not connect",
                    f"ssh-keyscan -t ed25519 -p {each.port} {each.host} >>{file}, and compare its "
                    "fingerprint with the one that the centre publishes",
                )
            )
    return found or [ok("host keys", f"{file} has one for every cluster")]


def _bridge(options: BridgeFile) -> list[Finding]:
    if not options.metrics_port:
        return [ok("bridge", "its metrics are off: nothing to look at")]
    url = f"http://127.0.0.1:{options.metrics_port}/metrics"
    try:
        _, body = get(url)
    except HttpError as error:
        return [bad("bridge", str(error), "start it: headrace-bridge --config bridge.toml")]
    names = [each.name for each in options.clusters]
    return checks.bridge(body.decode(errors="replace"), names)
