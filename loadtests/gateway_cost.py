"""What people, limits and accounts cost the edge: ``python -m loadtests.gateway_cost``.

In one run two edges serve the same load in turns, on the same hub: one with a key in its file and
nothing else, one with a key of the store, seven limits that count for each request, and accounts.
As there are two of them, the limits are counted in the store's leases, which costs more than alone.

First they are asked for as much as they can give: of answers that a worker beside the hub has made
beforehand, so that nothing but the edge has to work much. Then through the whole path. What counts
is the ratio of the processor time that each edge takes per request, which other people's work on
the machine disturbs least; requests per second are told beside it.
"""

import argparse
import contextlib
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from headrace.cli.demo import probes
from headrace.cli.setup.credentials import write_private
from headrace.devcluster.loopback import free_port
from headrace.gateway.admin.action import Actor
from headrace.gateway.admin.service import AdminService
from headrace.gateway.policy import api_keys
from headrace.gateway.policy.records import Limit, LimitWindow, Metric, SubjectKind
from headrace.gateway.store import migrations
from headrace.gateway.store.database import Database
from loadtests.bench import stages
from loadtests.bench.hops import stub
from loadtests.bench.models import FAST, STUB_NEAR
from loadtests.bench.parts import Running, wait
from loadtests.bench.playing import play
from loadtests.bench.stage import Stage, knows
from loadtests.load.loops import closed
from loadtests.load.plans import Closed, Plan
from loadtests.load.requests import Requester

RESULT: Final = Path(__file__).parent / "results" / "gateway-cost.json"
BILLION: Final = 1_000_000_000
OWNER: Final = "ada@example.org"
LIMITS: Final = (
    (SubjectKind.USER, Metric.REQUESTS, LimitWindow.MINUTE),
    (SubjectKind.USER, Metric.TOKENS, LimitWindow.DAY),
    (SubjectKind.GROUP, Metric.REQUESTS, LimitWindow.HOUR),
    (SubjectKind.GROUP, Metric.TOKENS, LimitWindow.MONTH),
    (SubjectKind.MODEL, Metric.REQUESTS, LimitWindow.DAY),
    (SubjectKind.USER, Metric.CONCURRENCY, LimitWindow.NOW),
    (SubjectKind.USER, Metric.QUEUED, LimitWindow.NOW),
)


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two edges: medians over rounds."""

    cpu_ms: float
    """Processor time of the edge per request."""
    per_second: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of load."""

    what: str
    requests: int
    bare: Side
    full: Side
    cpu_ratio: float
    """Of throughput that the edge has left: bare over full, of processor time."""
    rate_ratio: float
    """Of requests per second, full over bare."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run."""

    rounds: int
    rows: list[Row]
    load_average: float
    python: str


class Load(NamedTuple):
    """What both edges are asked for."""

    what: str
    model: str
    streams: int
    tokens: int
    verify: bool


LOADS: Final = (
    Load("the edge alone, of prepared answers of one token", STUB_NEAR, 32, 1, verify=False),
    Load("the whole path, 30 tokens", FAST.name, 16, 30, verify=True),
    Load("the whole path, 1 token", FAST.name, 16, 1, verify=True),
)


MODELS: Final = sorted({load.model for load in LOADS})


class Edge(NamedTuple):
    """One edge process."""

    pid: int
    url: str
    key: str

    def cpu(self) -> float:
        """Processor seconds so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def compare(bare: Edge, full: Edge, load: Load, rounds: int, each: int) -> Row:
    """Rounds in turns; of each the edge's processor time per request, and the rate."""
    plan = Plan(
        target="", arrivals=Closed(load.streams), seconds=3600, requests=each, tokens=load.tokens,
        model=load.model, verify=load.verify,
    )  # fmt: skip
    asked = []
    for edge in (bare, full):
        mine = msgspec.structs.replace(plan, target=edge.url, api_key=edge.key)
        asked.append((edge, mine, Requester(mine)))
    cpu: tuple[list[float], list[float]] = ([], [])
    rate: tuple[list[float], list[float]] = ([], [])
    dice = random.Random(rounds)
    for turn in range(rounds + 1):
        for number in dice.sample((0, 1), 2):
            edge, mine, requester = asked[number]
            began, before = time.perf_counter(), edge.cpu()
            samples = await closed(requester, mine, load.streams, began, each)
            wrong = {sample.outcome for sample in samples} - {"ok"}
            if wrong:
                raise RuntimeError(f"wrong answers: {wrong}")
            if turn:  # the first one warms up
                cpu[number].append((edge.cpu() - before) * 1e3 / each)
                rate[number].append(each / (time.perf_counter() - began))
    for _, _, requester in asked:
        requester.close()
    (bare_cpu, full_cpu), (bare_rate, full_rate) = (map(statistics.median, x) for x in (cpu, rate))
    return Row(
        what=load.what,
        requests=rounds * each,
        bare=Side(cpu_ms=round(bare_cpu, 4), per_second=round(bare_rate, 1)),
        full=Side(cpu_ms=round(full_cpu, 4), per_second=round(full_rate, 1)),
        cpu_ratio=round(bare_cpu / full_cpu, 4),
        rate_ratio=round(full_rate / bare_rate, 4),
    )


@contextlib.asynccontextmanager
async def edges(stage: Stage) -> AsyncIterator[tuple[Edge, Edge]]:
    """A bare edge and a full one, in place of the stage's own."""
    head, _, rest = (stage.web / "edge.toml").read_text().partition("[store]\n")
    rest = rest.partition("\n\n")[2]
    made = []
    async with contextlib.AsyncExitStack() as stack:
        for name, text, key in (
            ("bare", f"{head}\n{rest}", stage.key),
            ("full", f'{head}[store]\nurl = "sqlite:///cost.db"\n\n{rest}', _people(stage.web)),
        ):
            port = free_port()
            path = stage.web / f"{name}.toml"
            write_private(path, text.replace("\nport = ", f"\nport = {port} #"))
            argv = [sys.executable, "-m", "headrace.edge.main", "--config", str(path)]
            running = Running(name, argv, {}, stage.web / f"{name}.log")
            stack.push_async_callback(running.end)
            url = f"http://127.0.0.1:{port}/v1"
            await running.ready(probes.answers(f"http://127.0.0.1:{port}/readyz"))
            made.append(Edge(running.pid, url, key))
        await stage.stop("edge")
        for edge in made:
            await wait(knows(edge.url, edge.key, MODELS), f"workers of {', '.join(MODELS)}")
        yield made[0], made[1]


def _people(web: Path) -> str:
    """A store with somebody in a group, and limits on everything; the key."""
    database = Database(f"sqlite+pysqlite:///{web}/cost.db")
    migrations.migrate(database)
    secret = api_keys.load_secret(web / "keys/api.secret")
    office = AdminService(database, secret, Actor("bench", "cli"))
    office.groups.put("chemistry", models=MODELS)
    key = office.keys.create(OWNER, make=True, groups=("chemistry",)).key
    names = {SubjectKind.USER: [OWNER], SubjectKind.GROUP: ["chemistry"], SubjectKind.MODEL: MODELS}
    office.limits.set(
        Limit(kind=kind, name=name, metric=metric, window=window, value=BILLION)
        for kind, metric, window in LIMITS
        for name in names[kind]
    )
    database.close()
    return key


async def measure(rounds: int, each: int) -> list[Row]:
    """Every load."""
    async with stages.opened() as stage:
        await stage.serve(FAST)
        async with stub(stage, STUB_NEAR, at_hub=True), edges(stage) as (bare, full):
            return [await compare(bare, full, load, rounds, each) for load in LOADS]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(prog="gateway_cost", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--each", type=int, default=2000, help="requests of a round")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(argv)
    load = os.getloadavg()[0]
    rows = play(measure(given.rounds, given.each))
    result = Result(
        rounds=given.rounds, rows=rows, load_average=load, python=platform.python_version()
    )
    given.out.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    for row in rows:
        print(
            f"{row.what}: {row.bare.cpu_ms:.3f} ms of the edge per request bare, "
            f"{row.full.cpu_ms:.3f} ms full: {row.cpu_ratio:.1%} of its throughput is left; "
            f"{row.bare.per_second:.0f} and {row.full.per_second:.0f} requests/s"
        )


if __name__ == "__main__":
    main()
