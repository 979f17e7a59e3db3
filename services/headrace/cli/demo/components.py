"""The demo's processes, in the order in which they end (the reverse of how they depend)."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from headrace.cli import resources
from headrace.cli.demo import probes, slurm
from headrace.cli.demo.component import Component
from headrace.cli.demo.engines import SIM_SLOTS, Engine
from headrace.cli.demo.ssh_server import SshServer
from headrace.cli.demo.workspace import Workspace
from headrace.cli.setup.site import Site, SiteCluster
from headrace.devcluster.local import CONTROLLER

ONE_PROCESSOR: Final = {"GOMAXPROCS": "1"}
"""For a nats-server on a small machine: with more it spends a third of its time on looking for work
to share out, and one processor carries far more than an edge asks of it."""


def all_of(
    workspace: Workspace,
    site: Site,
    ssh: SshServer,
    working: Sequence[Component],
) -> list[Component]:
    """Every part; `working` are those that do the cluster's work."""
    cluster = site.clusters[0]
    nats = resources.program("nats-server")
    return [
        _edge(workspace, site, {} if site.models else WAITING),
        *working,
        _bridge(workspace, site, cluster),
        Component(
            name="sshd",
            argv=ssh.argv,
            address=f"127.0.0.1:{cluster.ssh_port}",
            what=f"the cluster's SSH server: {ssh.what}",
            probe=probes.listens(cluster.ssh_port),
        ),
        Component(
            name="leaf",
            argv=(nats, "-c", str(workspace.cluster / "leaf.conf")),
            address=f"127.0.0.1:{cluster.leaf_port}, gate :{cluster.gate_port}",
            what="the cluster's nats-server",
            probe=probes.listens(cluster.leaf_port),
            env=ONE_PROCESSOR,
        ),
        Component(
            name="hub",
            argv=(nats, "-c", str(workspace.web / "hub.conf")),
            address=f"127.0.0.1:{site.hub_port}, monitor :{site.hub_monitor_port}",
            what="the web machine's nats-server: the queue",
            probe=probes.listens(site.hub_port),
            env=ONE_PROCESSOR,
            # It dials the bridge once a second.
            after=probes.listens(site.bridge_metrics_port),
        ),
    ]


def by_hand(workspace: Workspace, site: Site, engine: str, workers: int) -> list[Component]:
    """So many workers, as somebody would start them by hand."""
    return [_worker(workspace, site.clusters[0], engine, number + 1) for number in range(workers)]


def scaled(workspace: Workspace, site: Site, ports: dict[str, int]) -> list[Component]:
    """The scaler, and a Slurm whose jobs are the workers."""
    return [
        Component(
            name="scaler",
            argv=_ours("scaler", workspace.cluster / "scaler.toml"),
            address=f"via 127.0.0.1:{site.clusters[0].leaf_port}",
            what="starts workers as jobs",
            probe=probes.exists(workspace.state / "status.json"),
            env={**slurm.environ(workspace.slurm), "HEADRACE_SCALER__INTERVAL_SECONDS": "2"},
            after=probes.listens(ports[CONTROLLER]),
        ),
        *slurm.parts(workspace.slurm, ports),
    ]


WAITING: Final = {"HEADRACE_EDGE__HOLD_SECONDS": "0.3", "HEADRACE_EDGE__COMMENT_SECONDS": "2"}
"""Where requests wait for jobs, one wants to see how."""


def _edge(workspace: Workspace, site: Site, env: dict[str, str]) -> Component:
    url = f"http://127.0.0.1:{site.api_port}"
    return Component(
        name="edge",
        argv=_ours("edge", workspace.web / "edge.toml"),
        address=url,
        what="the API",
        probe=probes.answers(f"{url}/readyz"),
        env=env,
    )


def _bridge(workspace: Workspace, site: Site, cluster: SiteCluster) -> Component:
    metrics = site.bridge_metrics_port
    return Component(
        name="bridge",
        argv=_ours("bridge", workspace.web / "bridge.toml"),
        address=f"127.0.0.1:{cluster.link_port}, metrics :{metrics}",
        what="the SSH connection to the cluster",
        # Not its own port: each connection there would become a session at the gate.
        probe=probes.listens(metrics),
    )


def _worker(workspace: Workspace, cluster: SiteCluster, engine: str, number: int) -> Component:
    slots = {"HEADRACE_WORKER__SLOTS": str(SIM_SLOTS)} if engine == Engine.SIM else {}
    return Component(
        name=f"worker-{number}",
        argv=_ours("worker", workspace.cluster / "worker.toml"),
        address=f"via 127.0.0.1:{cluster.leaf_port}",
        what=f"pulls requests for {engine}",
        probe=probes.listens(cluster.leaf_port),
        env={
            # For the engine's socket, whose path must be short.
            "TMPDIR": str(workspace.run),
            # So that `headrace top` calls it as the table does.
            "HEADRACE_WORKER__NODE": f"worker-{number}",
            # Whoever ends the demo does not want to wait for the ends of answers or of loading.
            "HEADRACE_WORKER__DRAIN_SECONDS": "3",
            "HEADRACE_WORKER__ENGINE__STOP_SECONDS": "3",
            **{name: value for name, value in slots.items() if name not in os.environ},
        },
        stop_seconds=10.0,
    )


def _ours(daemon: str, config: Path) -> tuple[str, ...]:
    # Through this interpreter: a script's first line can't hold a long path to it. -P keeps the
    # working directory off the module path.
    return (sys.executable, "-P", "-c", _ENTRY.format(daemon), "--config", str(config))


_ENTRY = "import sys; from headrace.{0}.main import main; sys.exit(main())"
