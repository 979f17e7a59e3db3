"""One installation as plain values: a web machine, and the clusters that it is joined to."""

import msgspec

from headrace.cli.setup import values
from headrace.protocol.names import slug, slug_of


class SiteModel(msgspec.Struct, frozen=True):
    """A model that the edge offers."""

    name: str
    slug: str = ""

    def __post_init__(self) -> None:
        values.model_name(self.name)
        _ = self.queue

    @property
    def queue(self) -> str:
        """The slug in subjects; made from the name if none was given."""
        return slug(self.slug) if self.slug else slug_of(self.name)


class SiteCluster(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster, seen from both of its sides."""

    name: str
    ssh_host: str
    ssh_user: str
    ssh_port: int = 22
    host_keys: tuple[str, ...] = ()
    """The sshd's public keys, as ``algorithm key``."""

    home: str = ""
    """Where `clusters/NAME` will lie on the service node; the account's home if empty."""
    gate_python: str = "/usr/bin/python3"
    leaf_host: str = ""
    """The service node's name inside the cluster; its SSH name if empty."""
    leaf_listen: str = "0.0.0.0"
    leaf_port: int = 4222
    gate_port: int = 7422
    """The leaf's port for the gate, on the service node's loopback."""
    link_port: int = 7500
    """The bridge's port for this cluster, on the web machine's loopback."""
    run_dir: str = "run"
    """For the leaf's own files; relative to where nats-server is started."""

    def __post_init__(self) -> None:
        values.cluster(self.name)
        values.user(self.ssh_user)
        for host in (self.ssh_host, self.leaf_at, self.leaf_listen):
            values.host(host)
        for port in (self.ssh_port, self.leaf_port, self.gate_port, self.link_port):
            values.port(port)
        for path in (self.place, self.gate_python):
            values.plain_path(path)
        values.quotable_path(self.run_dir)
        for key in self.host_keys:
            values.host_key(key)

    @property
    def place(self) -> str:
        """The absolute directory on the service node."""
        return self.home or f"/home/{self.ssh_user}/headrace"

    @property
    def gate_path(self) -> str:
        """The absolute path of the gate on the service node."""
        return f"{self.place}/gate"

    @property
    def leaf_at(self) -> str:
        """Where the cluster's workers find the leaf."""
        return self.leaf_host or self.ssh_host


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """The web machine and its clusters."""

    clusters: tuple[SiteCluster, ...]
    models: tuple[SiteModel, ...] = ()
    external: tuple[SiteModel, ...] = ()
    """Models of commercial providers: their worker may take these and no others."""
    api_host: str = "127.0.0.1"
    api_port: int = 8080
    processes: int = 1
    hub_port: int = 4222
    hub_monitor_port: int = 8222
    bridge_metrics_port: int = 9102
    store: str = "sqlite:///gateway.db"
    """Where people, keys, groups, limits and accounts are kept."""
    queue_bytes: int = 1 << 30
    """The bound of all waiting requests together; the hub keeps them in memory."""
    run_dir: str = "run"
    """For the hub's own files; relative to where nats-server is started."""

    def __post_init__(self) -> None:
        values.host(self.api_host)
        values.quotable_path(self.run_dir)
        own = [self.api_port, self.hub_port, self.hub_monitor_port, self.bridge_metrics_port]
        ports = [values.port(port) for port in own]
        ports += [cluster.link_port for cluster in self.clusters]
        for what, every in (
            ("port of the web machine", [str(port) for port in ports]),
            ("cluster", [cluster.name for cluster in self.clusters]),
            ("model", [model.queue for model in (*self.models, *self.external)]),
        ):
            for twice in {one for one in every if every.count(one) > 1}:
                raise ValueError(f"this {what} is given twice: {twice}")
