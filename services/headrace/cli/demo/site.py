"""The demo's installation: `headrace init`'s own files, for a web machine and a cluster that are
both this machine."""

import shutil

import msgspec

from headrace.cli.demo import ssh_server
from headrace.cli.demo.engines import MODEL, EngineTable
from headrace.cli.demo.workspace import CLUSTER, Workspace
from headrace.cli.setup import daemon_conf, installation
from headrace.cli.setup.credentials import write_private
from headrace.cli.setup.site import Site, SiteCluster, SiteModel
from headrace.gateway.store import migrations
from headrace.gateway.store.database import Database

LOOPBACK = "127.0.0.1"


def make(
    workspace: Workspace, ports: dict[str, int], api_port: int, *, planned: bool = False
) -> Site:
    """The site on these ports; with `planned` the edge learns of models from the scaler alone."""
    cluster = SiteCluster(
        name=CLUSTER,
        ssh_host=LOOPBACK,
        ssh_port=ports["ssh"],
        ssh_user=ssh_server.user(),
        host_keys=(ssh_server.host_key(workspace.run),),
        home=str(workspace.run),
        gate_python=ssh_server.gate_python(),
        leaf_host=LOOPBACK,
        leaf_listen=LOOPBACK,
        leaf_port=ports["leaf"],
        gate_port=ports["gate"],
        link_port=ports["link"],
        run_dir=str(workspace.cluster / "run"),
    )
    return Site(
        clusters=(cluster,),
        models=() if planned else (SiteModel(MODEL),),
        api_port=api_port,
        hub_port=ports["hub"],
        hub_monitor_port=ports["hub_monitor"],
        bridge_metrics_port=ports["bridge_metrics"],
        run_dir=str(workspace.web / "run"),
    )


def install(workspace: Workspace, site: Site, engine: EngineTable) -> str:
    """Write everything; returns the line of authorized_keys."""
    done = installation.install(workspace.root, site, force=True, api_key=workspace.api_key())
    cluster = site.clusters[0]
    table = {key: value for key, value in msgspec.to_builtins(engine).items() if key != "env"}
    text = daemon_conf.worker(cluster, SiteModel(MODEL), table, engine.env)
    write_private(workspace.cluster / "worker.toml", text)
    store = workspace.web / "gateway.db"
    if store.exists():  # of an earlier demo, and perhaps of an earlier version
        database = Database(f"sqlite:///{store}")
        migrations.migrate(database)
        database.close()
    # Where the line of authorized_keys says that the gate is.
    shutil.copy(workspace.cluster / "gate", cluster.gate_path)
    return done.authorized_keys[cluster.name]
