"""The configurations of Headrace's own daemons. Paths are relative to the file's folder."""

from collections.abc import Sequence

import msgspec

from headrace.cli.setup import values
from headrace.cli.setup.credentials import tunnel_file
from headrace.cli.setup.site import Site, SiteCluster, SiteModel
from headrace.runtime import toml

EXAMPLE_MODEL = SiteModel("Qwen/Qwen3-8B")


class ApiKey(msgspec.Struct, frozen=True):
    """A key as the edge knows it."""

    id: str
    digest: str


def edge(site: Site, keys: Sequence[ApiKey]) -> str:
    """``edge.toml``."""
    external = {"external": "models.d"} if site.external else {}
    return toml.document(
        "The edge: the API on the web machine. Start it with: headrace-edge --config edge.toml\n"
        "The keys here are the site's own, which no group binds; people's keys are in the store:\n"
        "`headrace keys` makes them. Of a key there is its digest alone: it was printed once.",
        toml.table(
            "",
            {
                "host": site.api_host,
                "port": site.api_port,
                "processes": site.processes,
                "secret_file": "keys/api.secret",
                **external,
            },
        ),
        toml.table(
            "[bus]",
            {"url": f"nats://127.0.0.1:{site.hub_port}", "nkey_file": "keys/edge.nk"},
        ),
        toml.table("[queue]", {"max_bytes": site.queue_bytes}),
        toml.table("[store]", {"url": site.store}),
        *(
            toml.table("[[models]]", {"name": model.name, "slug": model.queue})
            for model in site.models
        ),
        *(toml.table("[[keys]]", {"id": key.id, "digest": key.digest}) for key in keys),
    )


def bridge(site: Site) -> str:
    """``bridge.toml``."""
    return toml.document(
        "The bridge: SSH connections to the clusters.\n"
        "Start it with: headrace-bridge --config bridge.toml",
        toml.table("", {"metrics_port": site.bridge_metrics_port}),
        *(
            toml.table(
                "[[clusters]]",
                {
                    "name": cluster.name,
                    "host": cluster.ssh_host,
                    "port": cluster.ssh_port,
                    "user": cluster.ssh_user,
                    "key": tunnel_file(cluster.name),
                    "known_hosts": "known_hosts",
                    "listen_port": cluster.link_port,
                },
            )
            for cluster in site.clusters
        ),
    )


def external(site: Site) -> str:
    """``external.toml``: what the workers of all external models share."""
    return toml.document(
        "The workers of external models, each with a file in models.d/. Start one with:\n"
        "headrace-worker --config external.toml --external SLUG",
        toml.table("", {"models": "models.d"}),
        toml.table(
            "[bus]",
            {"url": f"nats://127.0.0.1:{site.hub_port}", "nkey_file": "keys/hub-worker.nk"},
        ),
    )


def worker(
    cluster: SiteCluster,
    model: SiteModel,
    engine: toml.Table,
    env: toml.Table | None = None,
    comment: str = "",
) -> str:
    """``worker.toml``: one model, run by `engine` with `env` in its environment."""
    return toml.document(
        "A worker: runs an engine inside a Slurm job. Start it with: headrace-worker --config FILE"
        + comment,
        toml.table("", {"cluster": cluster.name, "model": model.queue, "name": model.name}),
        toml.table(
            "[bus]",
            {
                "url": f"nats://{values.address(cluster.leaf_at, cluster.leaf_port)}",
                "nkey_file": "keys/worker.nk",
            },
        ),
        toml.table("[engine]", engine),
        toml.table("[engine.env]", env or {}),
    )


def scaler(cluster: SiteCluster, worker_command: Sequence[str] = ("headrace-worker",)) -> str:
    """``scaler.toml``: the scaler and the workers that it starts share the cluster's leaf."""
    leaf = f"nats://{values.address(cluster.leaf_at, cluster.leaf_port)}"
    return toml.document(
        "The scaler: submits a job for each model that is asked for, and ends it again.\n"
        "Start it with: headrace-scaler --config scaler.toml\n"
        "Compute nodes must see this folder at the same path: what jobs read lies in `state`.\n"
        "`worker_command` starts a worker there; give its whole path if it is not on a job's PATH.",
        toml.table(
            "",
            {
                "cluster": cluster.name,
                "models": "models.d",
                "state": "state",
                "worker_command": worker_command,
            },
        ),
        toml.table("[bus]", {"url": leaf, "nkey_file": "keys/scaler.nk"}),
        toml.table("[worker_bus]", {"url": leaf, "nkey_file": "keys/worker.nk"}),
    )


def example_worker(cluster: SiteCluster, models: Sequence[SiteModel]) -> str:
    """``worker.toml`` for the first of the edge's models, to be adapted."""
    model = models[0] if models else EXAMPLE_MODEL
    engine = {"kind": "vllm", "model": model.name, "python": "/path/to/vllm-env/bin/python"}
    return worker(
        cluster,
        model,
        engine,
        comment="\nAn example: say which engine and model. Kinds: vllm, llamacpp, command.",
    )


def known_hosts_name(cluster: SiteCluster) -> str:
    """How known_hosts calls the cluster's sshd."""
    host, port = cluster.ssh_host, cluster.ssh_port
    return host if port == 22 else f"[{host}]:{port}"


def known_hosts(site: Site, old: str = "") -> str:
    """``known_hosts``: the given keys, and those of `old` for hosts whose key was not given."""
    lines = [
        f"{known_hosts_name(cluster)} {key}"
        for cluster in site.clusters
        for key in cluster.host_keys
    ]
    given = {line.split()[0] for line in lines}
    lines += [
        line
        for line in old.splitlines()
        if line.strip() and not line.startswith("#") and line.split()[0] not in given
    ]
    head = (
        "# The host keys that the bridge trusts. A host that is not here is never connected to.\n"
        "# Get one with `ssh-keyscan -t ed25519 -p PORT HOST`, and compare its fingerprint\n"
        "# (`ssh-keygen -lf known_hosts`) with the one that the centre publishes.\n"
    )
    return head + "".join(f"{line}\n" for line in lines)
