"""What `headrace init` tells the operator: what to do on each machine, in order."""

from pathlib import Path

from headrace.cli.setup.daemon_conf import known_hosts_name
from headrace.cli.setup.installation import Installed
from headrace.cli.setup.site import Site, SiteCluster


def text(directory: Path, site: Site, done: Installed) -> str:
    """The whole of it, ready to print."""
    parts = [_cluster(directory, each, done.authorized_keys[each.name]) for each in site.clusters]
    parts.append(_web(directory, site))
    parts.append(_key(site, done))
    return "\n".join(parts)


def _cluster(directory: Path, cluster: SiteCluster, line: str) -> str:
    at = f"{cluster.ssh_user}@{cluster.ssh_host}"
    port = "" if cluster.ssh_port == 22 else f"-P {cluster.ssh_port} "
    return f"""\
On the service node of cluster {cluster.name} ({at}):
  1. Copy {directory}/clusters/{cluster.name}/ to {cluster.place}/ there, for instance
       scp {port}-rp {directory}/clusters/{cluster.name} {at}:{cluster.place}
     The gate must end up as {cluster.gate_path}, executable.
  2. Add this line to ~/.ssh/authorized_keys. It lets the web machine's key run the gate and do
     nothing else: no shell, no file transfer, no forwarding.

{line}

  3. Start NATS:       cd {cluster.place} && nats-server -c leaf.conf
  4. Describe a model: cd {cluster.place}/models.d && cp small.toml.example my-model.toml
     (edit it, then see what is wrong with it: headrace models check .)
  5. Start the scaler: headrace-scaler --config {cluster.place}/scaler.toml
     It submits the jobs of workers when somebody asks, and ends them when nobody does.
     Compute nodes must see {cluster.place} at the same path, and find headrace-worker.
  6. Look:             headrace doctor --config {cluster.place}/scaler.toml
                       headrace top --config {cluster.place}/scaler.toml
  A worker can also be started by hand, inside a job of yours: headrace-worker --config worker.toml
"""


def _web(directory: Path, site: Site) -> str:
    missing = [cluster for cluster in site.clusters if not cluster.host_keys]
    hosts = "".join(_scan(directory, cluster) for cluster in missing)
    return f"""\
On the web machine:
  1. Copy {directory}/web/ there. Keep {directory} in a safe place: it holds every machine's keys,
     and a later `headrace init --force` needs them. No machine needs another one's folder.
  2. {"The host keys that you gave are in web/known_hosts." if not missing else hosts.strip()}
  3. Start, each under your service manager and in that folder:
       nats-server -c hub.conf
       headrace-bridge --config bridge.toml
       headrace-edge --config edge.toml
{_external(site)}  4. Put your TLS proxy in front of http://{site.api_host}:{site.api_port}.
  5. Look: headrace status http://{site.api_host}:{site.api_port}
"""


def _external(site: Site) -> str:
    return "".join(
        f"       headrace-worker --config external.toml --external {model.queue}\n"
        for model in site.external
    )


def _scan(directory: Path, cluster: SiteCluster) -> str:
    return f"""
     Tell the bridge {cluster.name}'s host key, or it will not connect:
       ssh-keyscan -t ed25519 -p {cluster.ssh_port} {cluster.ssh_host} >>{directory}/web/known_hosts
       ssh-keygen -lf {directory}/web/known_hosts
     and compare the fingerprint of {known_hosts_name(cluster)} with the one the centre publishes:
     whoever answers the first command is trusted from then on.
"""


def _key(site: Site, done: Installed) -> str:
    if not done.api_key:
        return "The API keys stay as they were (add --new-keys for new keys everywhere).\n"
    return f"""\
The first API key. It is shown this once, only its digest is stored:

{done.api_key}

  curl http://{site.api_host}:{site.api_port}/v1/models -H 'Authorization: Bearer {done.api_key}'
"""
