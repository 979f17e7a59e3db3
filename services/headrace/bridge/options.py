"""What an operator decides about the bridge, as one table of TOML per cluster."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from headrace.runtime.config import ConfigError, resolve

Port = Annotated[int, Meta(ge=1, le=65535)]
Text = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[float, Meta(gt=0)]


class BridgeCluster(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One cluster: where its sshd is, who we are there, and the local port that leads to it."""

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,63}$")]
    host: Text
    port: Port = 22
    user: Text
    key: Text
    """File with the tunnel's private key, without passphrase, readable by its owner alone."""
    known_hosts: Text
    """File with the host's key in OpenSSH's format. A host that is not in it is not trusted."""
    listen_port: Port
    """On 127.0.0.1; the hub's leaf remote for this cluster connects here."""
    max_sessions: Annotated[int, Meta(ge=1, le=10)] = 4
    """Connections of the hub at a time; more are refused. The hub needs one, and while a cut one
    ends there may be another. OpenSSH allows 10 on a connection."""
    silence_seconds: Annotated[float, Meta(ge=1)] = 12.0
    """A pipe is cut when the cluster's side has been silent for so long. More than two ping
    intervals of the cluster's nats-server (5 s): then two pings stayed without an answer."""
    greeting_seconds: Seconds = 5.0
    """A new pipe is cut when it brought nothing for so long: nats-server speaks first. After one
    that was cut for it the next has twice the time, and so on up to six times."""


class Options(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The bridge's options."""

    clusters: Annotated[list[BridgeCluster], Meta(min_length=1)]
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """On 127.0.0.1; 0 turns metrics off."""


def placed(options: Options, base: Path) -> Options:
    """`options` with their paths made absolute, relative ones to `base`.

    Raises ConfigError where two clusters share a name or a local port.
    """
    for field in ("name", "listen_port"):
        values = [getattr(cluster, field) for cluster in options.clusters]
        double = {value for value in values if values.count(value) > 1}
        if double:
            raise ConfigError(f"clusters: {field} {double.pop()} is used more than once")
    clusters = [
        msgspec.structs.replace(
            cluster,
            key=str(resolve(base, cluster.key)),
            known_hosts=str(resolve(base, cluster.known_hosts)),
        )
        for cluster in options.clusters
    ]
    return msgspec.structs.replace(options, clusters=clusters)
