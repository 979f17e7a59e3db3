"""The hub reaches a cluster through the tunnel, and tries no address that a cluster tells it.

A server tells its addresses to those that connect to it, and they try them when the link breaks.
From the web machine those lead nowhere, or, if the cluster lies, anywhere.
"""

from pathlib import Path

from headrace.devcluster.loopback import free_port
from tests.support.nats_kit import StartNats
from tests.support.nats_site import CLUSTER, make_site
from tests.support.tunnel_kit import Way, until

CREATED = "Leafnode connection created"
JOINED = "JetStream using domains"
FAILED = "Error trying to connect as leafnode"


async def test_a_hub_whose_link_broke_dials_no_other_address(
    tmp_path: Path, nats_process: StartNats
) -> None:
    site = make_site(tmp_path)
    (cluster,) = site.clusters
    hub_conf, leaf_conf = tmp_path / "web/hub.conf", tmp_path / f"clusters/{CLUSTER}/leaf.conf"
    way = Way(free_port())
    text, gate = hub_conf.read_text(), f"nats-leaf://127.0.0.1:{cluster.gate_port}"
    assert gate in text
    hub_conf.write_text(text.replace(gate, f"nats-leaf://127.0.0.1:{way.port}"))

    leaf = nats_process(leaf_conf, cluster.leaf_port, cluster.gate_port)
    async with way.run(cluster.gate_port):
        hub = nats_process(hub_conf, site.hub_port)
        await until(lambda: JOINED in hub.log(), 30)
        connections = leaf.log().count(CREATED)
    # The way is gone. Each address that the hub knows comes to its turn within a few attempts.
    await until(lambda: hub.log().count(FAILED) >= 4, 40)
    assert leaf.log().count(CREATED) == connections
