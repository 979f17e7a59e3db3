"""What people, limits and accounts cost the edge: ``python -m loadtests.gateway_cost``.

In one run two edges serve the same load in turns, on the same hub and the same simulated engine:
one with a key in its file and nothing else, one with a key of the store, seven limits that count
for each request, and accounts. What counts is the ratio of the processor time that each edge takes
per request, which other people's work on the machine disturbs least; requests per second of the
whole machine are told beside it.
"""

import argparse
import contextlib
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from headrace.gateway import migrations
from headrace.gateway.database import Database
from headrace.gateway.desk import Actor
from headrace.gateway.office import Office
from headrace.gateway.records import Kind, Limit, Metric, Window
from headrace.runtime import apikeys
from loadtests import demo
from loadtests.bench.places import free_port
from loadtests.load.loops import closed
from loadtests.load.plans import Plan
from loadtests.load.requests import Requester

RESULT: Final = Path(__file__).parent / "results" / "gateway-cost.json"
STREAMS: Final = 16
BILLION: Final = 1_000_000_000
OWNER: Final = "ada@example.org"
LIMITS: Final = (
    (Kind.USER, Metric.REQUESTS, Window.MINUTE),
    (Kind.USER, Metric.TOKENS, Window.DAY),
    (Kind.GROUP, Metric.REQUESTS, Window.HOUR),
    (Kind.GROUP, Metric.TOKENS, Window.MONTH),
    (Kind.MODEL, Metric.REQUESTS, Window.DAY),
    (Kind.USER, Metric.CONCURRENCY, Window.NOW),
    (Kind.USER, Metric.QUEUED, Window.NOW),
)


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two edges: medians over rounds."""

    cpu_ms: float
    """Processor time of the edge per request."""
    per_second: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of load."""

    tokens: int
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


class Edge:
    """One edge process, and the load for it."""

    def __init__(self, process: "subprocess.Popen[bytes]", plan: Plan) -> None:
        self._process = process
        self.requester = Requester(plan)
        self.plan = plan

    def cpu(self) -> float:
        """Processor seconds so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def compare(bare: Edge, full: Edge, rounds: int, each: int) -> tuple[list[float], ...]:
    """Rounds in turns; of each the edge's CPU per request and the rate, for bare and for full."""
    found: tuple[list[float], ...] = ([], [], [], [])
    dice = random.Random(rounds)
    for turn in range(rounds + 1):
        for number in dice.sample((0, 1), 2):
            edge = (bare, full)[number]
            plan = msgspec.structs.replace(edge.plan, requests=each)
            began, cpu = time.perf_counter(), edge.cpu()
            samples = await closed(edge.requester, plan, STREAMS, began, each)
            wrong = {sample.outcome for sample in samples} - {"ok"}
            if wrong:
                raise RuntimeError(f"wrong answers: {wrong}")
            if turn:  # the first one warms up
                found[2 * number].append((edge.cpu() - cpu) * 1e3 / each)
                found[2 * number + 1].append(each / (time.perf_counter() - began))
    return found


@contextlib.contextmanager
def edges(info: demo.Info, tokens: int) -> Iterator[tuple[Edge, Edge]]:
    """A bare edge and a full one beside the demo's own."""
    argv = Path(f"/proc/{info.pids['edge']}/cmdline").read_bytes().split(b"\0")
    config = Path(argv[argv.index(b"--config") + 1].decode())
    web = config.parent
    head, _, store = config.read_text().partition("[store]\n")
    rest = store.partition("\n\n")[2]
    key = _people(web, info.model)
    with contextlib.ExitStack() as stack:
        made = []
        for name, text, held in (
            ("bare", f"{head}\n{rest}", info.api_key),
            ("full", f'{head}[store]\nurl = "sqlite:///cost.db"\n\n{rest}', key),
        ):
            port = free_port()
            path = web / f"{name}.toml"
            path.write_text(text.replace("\nport = ", f"\nport = {port} #"))
            path.chmod(0o600)
            with (web / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "headrace.edge.main", "--config", str(path)],
                    stdout=log, stderr=log,
                )  # fmt: skip
            stack.callback(_end, process)
            url = f"http://127.0.0.1:{port}"
            _wait(f"{url}/readyz", web / f"{name}.log")
            plan = info.through(STREAMS, tokens)
            plan = msgspec.structs.replace(plan, target=f"{url}/v1", api_key=held)
            made.append(Edge(process, plan))
        time.sleep(3)  # they get to know each other, and the worker
        yield made[0], made[1]
        for edge in made:
            edge.requester.close()


def _people(web: Path, model: str) -> str:
    """A store with somebody in a group, and limits on everything; the key."""
    database = Database(f"sqlite+pysqlite:///{web}/cost.db")
    migrations.migrate(database)
    secret = apikeys.load_secret(web / "keys/api.secret")
    office = Office(database, secret, Actor("bench", "cli"))
    office.groups.put("chemistry", models=[model])
    key = office.keys.create(OWNER, make=True, groups=("chemistry",)).key
    names = {Kind.USER: OWNER, Kind.GROUP: "chemistry", Kind.MODEL: model}
    office.limits.set(
        Limit(kind=kind, name=names[kind], metric=metric, window=window, value=BILLION)
        for kind, metric, window in LIMITS
    )
    database.close()
    return key


def _wait(url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310
                return
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(log.read_text()[-3000:]) from None
            time.sleep(0.1)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(60)


def measure(info: demo.Info, tokens: int, rounds: int, each: int) -> Row:
    """One kind of load."""
    with edges(info, tokens) as (bare, full):
        found = uvloop.run(compare(bare, full, rounds, each))
    bare_cpu, bare_rate, full_cpu, full_rate = map(statistics.median, found)
    return Row(
        tokens=tokens,
        requests=rounds * each,
        bare=Side(cpu_ms=round(bare_cpu, 4), per_second=round(bare_rate, 1)),
        full=Side(cpu_ms=round(full_cpu, 4), per_second=round(full_rate, 1)),
        cpu_ratio=round(bare_cpu / full_cpu, 4),
        rate_ratio=round(full_rate / bare_rate, 4),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(prog="gateway_cost", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--each", type=int, default=400, help="requests of a round")
    parser.add_argument("--tokens", type=int, nargs="+", default=[30, 1])
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(argv)
    load = os.getloadavg()[0]
    rows = []
    for tokens in given.tokens:
        with demo.running() as info:
            rows.append(measure(info, tokens, given.rounds, given.each))
    result = Result(
        rounds=given.rounds, rows=rows, load_average=load, python=platform.python_version()
    )
    given.out.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    for row in rows:
        print(
            f"{row.tokens} tokens: {row.bare.cpu_ms:.3f} ms of the edge per request bare, "
            f"{row.full.cpu_ms:.3f} ms full: {row.cpu_ratio:.1%} of its throughput is left; "
            f"{row.bare.per_second:.0f} and {row.full.per_second:.0f} requests/s"
        )


if __name__ == "__main__":
    main()
