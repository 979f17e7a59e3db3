"""The command line of the bridge."""

import argparse
import asyncio
import os
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from headrace.bridge.connection import check
from headrace.bridge.link import Link
from headrace.bridge.metrics import BridgeMetrics, ClusterMetrics
from headrace.bridge.options import Options, placed
from headrace.runtime import config, lifecycle, logging, metrics
from headrace.runtime.lifecycle import Lifecycle

DESCRIPTION: Final = """\
Keep an SSH connection to each cluster and carry bytes between the hub's leaf links and the gates.

The hub's nats-server dials 127.0.0.1:listen_port of a cluster; each such connection becomes one
session of that cluster's SSH connection, in which the gate, the forced command of the tunnel key,
joins it to the cluster's nats-server. Whatever breaks is made anew without help.
"""

EPILOG: Final = """\
configuration:
  metrics_port = 9102                # on 127.0.0.1; 0 (the default) turns metrics off

  [[clusters]]                       # one table for each cluster
  name = "alpha"                     # in logs and metrics
  host = "login.alpha.example.org"
  port = 22
  user = "headrace"
  key = "tunnel.key"                 # the private key, mode 0600, without passphrase
  known_hosts = "known_hosts"        # ssh-keyscan HOST, compared with what the centre publishes
  listen_port = 7500                 # the leaf remote in the hub's configuration dials it
  max_sessions = 4                   # connections of the hub at a time; more are refused
  silence_seconds = 12               # a pipe that brings nothing for so long is cut

  Relative paths begin at the configuration file's folder. HEADRACE_BRIDGE__METRICS_PORT=9102 in
  the environment overrides metrics_port.

exit codes: 0 stopped by a signal, 1 failed, 78 the configuration or one of its files can't be used
"""


def main(argv: list[str] | None = None) -> int:
    """The console script ``headrace-bridge``."""
    parser = argparse.ArgumentParser(
        prog="headrace-bridge",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="TOML, see below"
    )
    parser.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"],
        metavar="LEVEL", help="debug, info (the default), warning or error",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    log = logging.setup("bridge", arguments.log_level)
    return lifecycle.run(lambda life: bridge(life, arguments.config), log)


async def bridge(life: Lifecycle, path: Path) -> int:
    """Serve until told to stop. Nothing is drained: the hub's server keeps what it can't send."""
    options = placed(config.load(path, Options, os.environ, "bridge"), path.parent)
    for cluster in options.clusters:
        check(cluster)
    registry = CollectorRegistry()
    declared = BridgeMetrics(registry)
    links = [
        Link(cluster, life.log, ClusterMetrics(declared, cluster.name))
        for cluster in options.clusters
    ]
    for link in links:
        await link.bind()
    metrics.serve(registry, options.metrics_port)
    life.ready()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(link.run()) for link in links]
        await life.stopping.wait()
        for task in tasks:
            task.cancel()
    return 0
