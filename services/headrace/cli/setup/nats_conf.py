"""The configurations of the two nats-servers, rendered from the templates of ``infra/nats``."""

from collections.abc import Iterable
from string import Template
from typing import Final

from headrace.cli import resources
from headrace.cli.setup import values
from headrace.cli.setup.credentials import ClusterKeys, Credentials
from headrace.cli.setup.site import Site, SiteCluster
from headrace.protocol.names import LANES, slug
from headrace.protocol.subjects import DOMAIN, consumer

DENIED_API: Final = (
    "INFO",
    "STREAM.>",
    "CONSUMER.CREATE.>",
    "CONSUMER.DURABLE.>",
    "CONSUMER.DELETE.>",
    "CONSUMER.LIST.>",
    "CONSUMER.NAMES.>",
    "CONSUMER.PAUSE.>",
    "DIRECT.>",
    "META.>",
    "SERVER.>",
    "ACCOUNT.>",
)
"""What of JetStream's API no cluster may use on the hub: all but pulling, and the backlog."""


def hub(site: Site, credentials: Credentials) -> str:
    """``hub.conf``. Holds the seeds of the links' users: 0600."""
    remotes = (remote(each, credentials.clusters[each.name]) for each in site.clusters)
    return _fill(
        "hub.conf",
        hub_listen=values.address("127.0.0.1", site.hub_port),
        hub_monitor=values.address("127.0.0.1", site.hub_monitor_port),
        run_dir=values.quotable_path(site.run_dir),
        queue_memory=str(site.queue_bytes),
        edge_nkey=credentials.edge.public,
        external=external(site, credentials) if site.external else "",
        remotes="\n".join(remotes),
    )


def external(site: Site, credentials: Credentials) -> str:
    """The user of ``hub.conf`` that takes external models' requests, and no others."""
    subjects = []
    for model in site.external:
        queue = slug(model.queue)
        for lane in LANES:
            name = consumer(queue, lane)
            subjects += [f"$JS.API.CONSUMER.MSG.NEXT.REQUESTS.{name}", f"$JS.ACK.REQUESTS.{name}.>"]
        subjects.append(f"hr.state.*.{queue}.*")
    return _fill(
        "external.conf",
        hub_worker_nkey=credentials.hub_worker.public,
        publish=",\n            ".join(f'"{subject}"' for subject in subjects),
    )


def remote(cluster: SiteCluster, keys: ClusterKeys) -> str:
    """The block of ``hub.conf`` that joins one cluster."""
    return _fill(
        "remote.conf",
        cluster=values.cluster(cluster.name),
        link_port=str(values.port(cluster.link_port)),
        link_seed=keys.link.seed,
        denied_api=", ".join(f'"{subject}"' for subject in _denied()),
    )


def leaf(cluster: SiteCluster, keys: ClusterKeys) -> str:
    """``leaf.conf`` of one cluster. Holds public keys alone."""
    return _fill(
        "leaf.conf",
        cluster=values.cluster(cluster.name),
        leaf_listen=values.address(cluster.leaf_listen, cluster.leaf_port),
        gate_listen=values.address("127.0.0.1", cluster.gate_port),
        run_dir=values.quotable_path(cluster.run_dir),
        link_nkey=keys.link.public,
        worker_nkey=keys.worker.public,
        scaler_nkey=keys.scaler.public,
        # Monitoring has no login, and a service node has other users.
        monitor="",
    )


def _denied() -> Iterable[str]:
    return (f"$JS.{domain}API.{verb}" for domain in ("", f"{DOMAIN}.") for verb in DENIED_API)


def _fill(name: str, **fields: str) -> str:
    return Template(resources.template(name)).substitute(fields)
