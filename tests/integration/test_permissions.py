"""What each principal may do on the bus: every row is tried on servers with `init`'s own files.

The tables are the specification: a subject that is not in them has no business on the bus.
"""

import asyncio
import json
from pathlib import Path

import nkeys
import pytest

from headrace.cli.setup.site import Site
from headrace.devcluster.loopback import free_port
from headrace.protocol import subjects
from headrace.protocol.names import Slug
from tests.support.nats_kit import NatsServer, StartNats
from tests.support.nats_site import (
    CLUSTER,
    Probe,
    answered,
    comes_through,
    is_refused,
    make_site,
    new_seed,
    observer_url,
    probe,
    with_observer,
)

EDGE = "a" * 16
WORKER = "b" * 16
REQUEST = "0" * 32
MODEL = Slug("test-model")
CONSUMER = subjects.consumer(MODEL, "normal")

SOLD = Slug("sold-model")
SOLD_CONSUMER = subjects.consumer(SOLD, "normal")

REQ = f"hr.req.{MODEL}.normal.{EDGE}"
PEER = f"hr.edge.{EDGE}"
RES = f"hr.res.{EDGE}.{REQUEST}"
CTL = f"hr.ctl.{WORKER}"
STATE = f"hr.state.{CLUSTER}.{MODEL}.{WORKER}"
PLAN = f"hr.plan.{CLUSTER}.{MODEL}"
OTHER_PLAN = f"hr.plan.south.{MODEL}"
"""What the scaler of another cluster tells: counts of workers and times, never content."""
DEMAND = f"hr.demand.{MODEL}"
NEXT = f"CONSUMER.MSG.NEXT.REQUESTS.{CONSUMER}"
INFO = f"CONSUMER.INFO.REQUESTS.{CONSUMER}"
SOLD_NEXT = f"CONSUMER.MSG.NEXT.REQUESTS.{SOLD_CONSUMER}"
SOLD_ACK = f"$JS.ACK.REQUESTS.{SOLD_CONSUMER}.1.1.1.1.1"
SOLD_STATE = f"hr.state.web.{SOLD}.{WORKER}"
"""Of a model that only a worker on the web machine should take."""
EXTERNAL_INBOX = f"_INBOX.external.{WORKER}.x"
"""Where the requests that it takes come to it."""
CREATE = f"CONSUMER.CREATE.REQUESTS.{CONSUMER}.{REQ}"
ACK = f"$JS.ACK.REQUESTS.{CONSUMER}.1.1.1.1.1"

HERE, HUB = "$JS.API.", "$JS.hub.API."
"""JetStream's API as the hub's own clients and as a cluster's clients call it."""

DESTROYERS = [
    "STREAM.CREATE.OTHER",
    "STREAM.UPDATE.OTHER",
    "STREAM.DELETE.REQUESTS",
    "STREAM.MSG.GET.REQUESTS",
    "STREAM.SNAPSHOT.REQUESTS",
    "STREAM.RESTORE.REQUESTS",
    "STREAM.LIST",
    "STREAM.NAMES",
    "DIRECT.GET.REQUESTS",
    f"CONSUMER.DELETE.REQUESTS.{CONSUMER}",
    f"CONSUMER.PAUSE.REQUESTS.{CONSUMER}",
    "CONSUMER.LIST.REQUESTS",
    "CONSUMER.CREATE.OTHER.c",
    "CONSUMER.DURABLE.CREATE.REQUESTS.c",
    "INFO",
    "ACCOUNT.PURGE.HEADRACE",
    "META.LEADER.STEPDOWN",
]
"""Verbs that no daemon needs."""

MAKERS = [
    "STREAM.CREATE.REQUESTS",
    "STREAM.UPDATE.REQUESTS",
    "STREAM.MSG.DELETE.REQUESTS",
    "STREAM.INFO.REQUESTS",
    "STREAM.PURGE.REQUESTS",
    CREATE,
]
"""Verbs that the edge alone needs."""

SYSTEM = ["$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$JS.EVENT.ADVISORY.API"]
STRANGE = ["anything.else", "hr", "hr.other", "_INBOX.stranger.x"]

# One token is one principal; every subject below is tried by each.
PUBLISH = [
    REQ, PEER, RES, CTL, STATE, PLAN, OTHER_PLAN, DEMAND, ACK,
    SOLD_ACK, SOLD_STATE, "$JS.ACK.OTHER.c.1.1.1.1.1",
    *(HERE + verb for verb in (NEXT, SOLD_NEXT, INFO, *MAKERS, *DESTROYERS)),
    *(HUB + verb for verb in (NEXT, SOLD_NEXT, INFO, *MAKERS, *DESTROYERS)),
    f"_INBOX.edge.{EDGE}.x", f"_INBOX.worker.{WORKER}.x", EXTERNAL_INBOX, "_INBOX.scaler.x",
    *SYSTEM, *STRANGE,
]  # fmt: skip
SUBSCRIBE = [
    ">", "*", "hr.>", "hr.*.>", "$JS.>", "$SYS.>", "_INBOX.>", "_INBOX.*.*.*",
    "hr.req.>", REQ, "hr.edge.>", "hr.res.>", f"hr.res.{EDGE}.*", "hr.ctl.>", CTL, "hr.state.>",
    "hr.plan.>", "hr.demand.>", f"_INBOX.edge.{EDGE}.*", f"_INBOX.worker.{WORKER}.*",
    f"_INBOX.external.{WORKER}.*", "_INBOX.scaler.*",
    "$JS.ACK.>", "$JS.API.>", "$JS.hub.API.>", "$JS.EVENT.>", *STRANGE,
]  # fmt: skip


def on_the_hub(*verbs: str) -> list[str]:
    """Both prefixes: the server maps its own domain to none before it looks at permissions."""
    return [prefix + verb for prefix in (HERE, HUB) for verb in verbs]


EDGE_MAY = {
    "publish": [REQ, PEER, CTL, DEMAND, *on_the_hub(INFO, *MAKERS)],
    "subscribe": [
        "hr.edge.>", "hr.res.>", f"hr.res.{EDGE}.*", "hr.state.>", "hr.plan.>",
        f"_INBOX.edge.{EDGE}.*",
    ],
}  # fmt: skip
WORKER_MAY = {
    "publish": [HUB + NEXT, HUB + SOLD_NEXT, ACK, SOLD_ACK, RES, STATE, SOLD_STATE],
    "subscribe": ["hr.ctl.>", CTL, f"_INBOX.worker.{WORKER}.*"],
}
HUB_WORKER_MAY = {
    "publish": [*on_the_hub(SOLD_NEXT), SOLD_ACK, RES, SOLD_STATE],
    "subscribe": ["hr.ctl.>", CTL, f"_INBOX.external.{WORKER}.*"],
}
SCALER_MAY = {
    "publish": [HUB + INFO, PLAN, OTHER_PLAN],
    "subscribe": ["hr.state.>", "hr.demand.>", "hr.plan.>", "_INBOX.scaler.*"],
}
LINK_MAY = {
    "publish": [CTL, DEMAND, PLAN, OTHER_PLAN, f"_INBOX.worker.{WORKER}.x", "_INBOX.scaler.x"],
    "subscribe": ["hr.res.>", f"hr.res.{EDGE}.*", "hr.state.>", "hr.plan.>"],
}

# The seed below the site, on which server, the inbox prefix, the rights.
PRINCIPALS = {
    "edge": ("web/keys/edge.nk", "hub", f"_INBOX.edge.{EDGE}", EDGE_MAY),
    "worker on the web machine": (
        "web/keys/hub-worker.nk", "hub", f"_INBOX.external.{WORKER}", HUB_WORKER_MAY,
    ),
    "worker": (
        f"clusters/{CLUSTER}/keys/worker.nk", "leaf", f"_INBOX.worker.{WORKER}", WORKER_MAY,
    ),
    "scaler": (f"clusters/{CLUSTER}/keys/scaler.nk", "leaf", "_INBOX.scaler", SCALER_MAY),
    "link as a client": (f"web/keys/{CLUSTER}.link.nk", "leaf", "_INBOX.worker.x", LINK_MAY),
}  # fmt: skip


class Running:
    """The site and its two servers."""

    def __init__(self, folder: Path, site: Site, start: StartNats) -> None:
        self.folder = folder
        self.site = site
        (self.cluster,) = site.clusters
        self._start = start

    @property
    def hub_conf(self) -> Path:
        return self.folder / "web/hub.conf"

    @property
    def leaf_conf(self) -> Path:
        return self.folder / f"clusters/{CLUSTER}/leaf.conf"

    @property
    def link_seed(self) -> str:
        return self.seed(f"web/keys/{CLUSTER}.link.nk")

    def seed(self, file: str) -> str:
        return (self.folder / file).read_text().strip()

    def port(self, server: str) -> int:
        return self.site.hub_port if server == "hub" else self.cluster.leaf_port

    def url(self, server: str) -> str:
        return f"nats://127.0.0.1:{self.port(server)}"

    def hub(self) -> NatsServer:
        return self._start(self.hub_conf, self.site.hub_port, self.site.hub_monitor_port)

    def leaf(self) -> NatsServer:
        return self._start(self.leaf_conf, self.cluster.leaf_port, self.cluster.gate_port)


@pytest.fixture
def running(nats: StartNats, tmp_path: Path) -> Running:
    return Running(tmp_path, make_site(tmp_path), nats)


@pytest.mark.parametrize("principal", PRINCIPALS)
async def test_a_principal_may_do_what_its_table_says_and_nothing_else(
    running: Running, principal: str
) -> None:
    key, server, inbox, may = PRINCIPALS[principal]
    running.leaf()
    running.hub()
    async with probe(running.url(server), running.seed(key), inbox) as one:
        publish = {subject for subject in PUBLISH if await one.may_publish(subject)}
        subscribe = {subject for subject in SUBSCRIBE if await one.may_subscribe(subject)}
    assert publish == set(may["publish"])
    assert subscribe == set(may["subscribe"])


def test_the_tables_name_only_subjects_that_are_tried() -> None:
    for _, _, _, may in PRINCIPALS.values():
        assert set(may["publish"]) <= set(PUBLISH)
        assert set(may["subscribe"]) <= set(SUBSCRIBE)


# What flows over the link where one end is an attacker who may do anything on his own server.
IN_TO_THE_CLUSTER = [
    CTL, DEMAND, PLAN, OTHER_PLAN, f"_INBOX.worker.{WORKER}.x", "_INBOX.scaler.x",
]  # fmt: skip
OUT_OF_THE_CLUSTER = [
    RES, STATE, SOLD_STATE, PLAN, OTHER_PLAN, ACK, SOLD_ACK, HUB + INFO,
    HUB + NEXT, HUB + SOLD_NEXT,
]  # fmt: skip
FLOWS = [subject for subject in PUBLISH if not subject.startswith("$SYS")]

ROGUE_HUB = """
listen: "127.0.0.1:{port}"
accounts {{ ROGUE {{ users: [ {{ user: observer, password: "observer" }} ] }} }}
leafnodes {{ reconnect: "1s", remotes: [
  {{ url: "nats-leaf://127.0.0.1:{gate}", account: ROGUE, nkey: "{seed}" }}
] }}
"""


async def test_a_stolen_web_machine_reaches_only_what_the_leaf_permits(
    running: Running, nats: StartNats, tmp_path: Path
) -> None:
    """All of the web machine's keys, and a server of the thief's own without any permissions."""
    with_observer(running.leaf_conf)
    running.leaf()
    port = free_port()
    config = tmp_path / "rogue/rogue.conf"
    config.parent.mkdir()
    config.write_text(
        ROGUE_HUB.format(port=port, gate=running.cluster.gate_port, seed=running.link_seed)
    )
    nats(config, port)
    async with (
        probe(observer_url(port)) as thief,
        probe(observer_url(running.cluster.leaf_port)) as inside,
    ):
        came_in = await comes_through(thief, inside, FLOWS, sentinel="hr.ctl.sentinel")
        came_out = await comes_through(inside, thief, FLOWS, sentinel="hr.state.sentinel")
    assert {subject for subject, came in came_in.items() if came} == set(IN_TO_THE_CLUSTER)
    assert {subject for subject, came in came_out.items() if came} == set(OUT_OF_THE_CLUSTER)


ROGUE_CLUSTER = """
listen: "127.0.0.1:{port}"
leafnodes {{ listen: "127.0.0.1:{gate}" }}
accounts {{ HEADRACE {{ users: [
  {{ user: observer, password: "observer" }}, {{ nkey: {link} }}
] }} }}
"""


async def test_a_stolen_cluster_reaches_no_requests_and_of_other_clusters_only_plans(
    running: Running, nats: StartNats, tmp_path: Path
) -> None:
    """The thief has the cluster's side of the link, with a server that permits him anything."""
    port = free_port()
    link = nkeys.from_seed(bytearray(running.link_seed.encode())).public_key.decode()
    config = tmp_path / "rogue/rogue.conf"
    config.parent.mkdir()
    config.write_text(ROGUE_CLUSTER.format(port=port, gate=running.cluster.gate_port, link=link))
    nats(config, port, running.cluster.gate_port)
    with_observer(running.hub_conf)
    running.hub()
    async with (
        probe(observer_url(port)) as thief,
        probe(observer_url(running.site.hub_port)) as inside,
    ):
        flows = [subject for subject in FLOWS if not subject.startswith("$JS")]
        came = await comes_through(thief, inside, flows, sentinel="hr.state.sentinel")
        got = {subject for subject, through in came.items() if through}
        # CTL and DEMAND come through, for what is denied here is denied both ways; a control
        # message only counts with a request's id, which has 80 random bits.
        assert not got & {REQ, PEER, f"_INBOX.edge.{EDGE}.x", EXTERNAL_INBOX}
        assert {RES, STATE, PLAN, OTHER_PLAN} <= got
        leaked = await comes_through(inside, thief, flows, sentinel="hr.ctl.sentinel")
        heard = {subject for subject, through in leaked.items() if through}
        assert not heard & {REQ, PEER, RES, STATE, f"_INBOX.edge.{EDGE}.x", EXTERNAL_INBOX}
        # Plans tell which models other clusters have and how many workers, nothing of requests.
        assert {CTL, DEMAND, PLAN, OTHER_PLAN} <= heard


async def test_a_stolen_cluster_cannot_touch_the_queue_itself(
    running: Running, nats: StartNats, tmp_path: Path
) -> None:
    port = free_port()
    link = nkeys.from_seed(bytearray(running.link_seed.encode())).public_key.decode()
    config = tmp_path / "rogue/rogue.conf"
    config.parent.mkdir()
    config.write_text(ROGUE_CLUSTER.format(port=port, gate=running.cluster.gate_port, link=link))
    nats(config, port, running.cluster.gate_port)
    running.hub()
    seed = running.seed("web/keys/edge.nk")
    async with (
        probe(running.url("hub"), seed, f"_INBOX.edge.{EDGE}") as edge,
        probe(observer_url(port)) as thief,
    ):
        await make_queue(edge)
        verbs = [*MAKERS, *DESTROYERS]
        while not (await answered(thief, [HUB + INFO]))[HUB + INFO]:
            pass  # the link is still coming up
        for prefix in (HERE, HUB):
            found = await answered(thief, [prefix + verb for verb in verbs])
            assert not [subject for subject, came in found.items() if came]


def stream_config(storage: str) -> dict[str, object]:
    return {
        "name": "REQUESTS",
        "subjects": ["hr.req.>"],
        "retention": "workqueue",
        "storage": storage,
        "discard": "new",
    }


async def ask(one: Probe, subject: str, body: object) -> dict[str, object]:
    answer = await one.client.request(subject, json.dumps(body).encode(), timeout=20)
    decoded: dict[str, object] = json.loads(answer.data)
    return decoded


async def make_queue(edge: Probe) -> None:
    made = await ask(edge, f"{HERE}STREAM.CREATE.REQUESTS", stream_config("memory"))
    assert "error" not in made
    config = {"durable_name": CONSUMER, "filter_subject": REQ, "ack_policy": "explicit"}
    made = await ask(edge, HERE + CREATE, {"stream_name": "REQUESTS", "config": config})
    assert "error" not in made


async def test_there_can_be_no_stream_in_a_file(running: Running) -> None:
    """Even a faulty edge could not put a prompt at rest."""
    running.hub()
    seed, marker = running.seed("web/keys/edge.nk"), b"marker-5d1f"
    async with probe(running.url("hub"), seed, f"_INBOX.edge.{EDGE}") as edge:
        made = await ask(edge, f"{HERE}STREAM.CREATE.REQUESTS", stream_config("file"))
        assert "error" in made
        assert await answered(edge, [REQ], marker) == {REQ: False}
    for file in (running.folder / "web/run").rglob("*"):
        assert not file.is_file() or marker not in file.read_bytes()


@pytest.mark.parametrize("place", ["hub", "leaf"])
def test_nobody_gets_in_without_a_key_of_the_place(running: Running, place: str) -> None:
    running.leaf()
    running.hub()
    port = running.port(place)
    assert is_refused(port)
    assert is_refused(port, new_seed())
    assert is_refused(port, user="observer", **{"pass": "observer"})
    own = {
        "hub": ["web/keys/edge.nk", "web/keys/hub-worker.nk"],
        "leaf": [f"clusters/{CLUSTER}/keys/{name}.nk" for name in ("worker", "scaler")],
    }
    for where, keys in own.items():
        for key in keys:
            assert is_refused(port, running.seed(key)) == (where != place), key


async def test_the_gates_port_is_for_leaf_links_with_the_links_key_alone(
    running: Running, nats: StartNats, tmp_path: Path
) -> None:
    running.leaf()
    gate = running.cluster.gate_port
    for seed in (None, running.link_seed, running.seed(f"clusters/{CLUSTER}/keys/worker.nk")):
        assert is_refused(gate, seed), "a client is no leaf"
    port = free_port()
    config = tmp_path / "rogue/rogue.conf"
    config.parent.mkdir()
    config.write_text(ROGUE_HUB.format(port=port, gate=running.cluster.gate_port, seed=new_seed()))
    rogue = nats(config, port)
    async with probe(observer_url(port)) as thief:
        for _ in range(100):
            await thief.client.flush()
            if "authorization violation" in rogue.log().lower():
                break
            await asyncio.sleep(0.2)
    assert "authorization violation" in rogue.log().lower()
