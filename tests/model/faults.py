"""What a seed decides: who asks for what, which workers are there, and what befalls them when."""

from dataclasses import dataclass
from random import Random

from tests.model.edge import Asked
from tests.model.engine import Task
from tests.model.network import Noise

CALM_AFTER = 25.0
"""No fault begins later than this; a cut that lasts may end later."""

KINDS = {
    "worker killed": 3,
    "worker stopped": 3,
    "worker drained": 3,
    "engine died": 3,
    "link cut": 4,
    "hub restarted": 2,
    "heartbeats lost": 1,
    "noise": 4,
}
"""The kinds of faults, and how often they come."""

CUTS = ("lost", "silent", "stalled")


@dataclass(frozen=True)
class Fault:
    """Something that befalls a worker, a link, or the hub."""

    at: float
    kind: str
    whom: int
    seconds: float
    how: str = ""
    noise: Noise | None = None


@dataclass(frozen=True)
class Hand:
    """One worker."""

    slots: int
    ids: bool
    link: int


@dataclass(frozen=True)
class Plan:
    """All of it, in seconds from the start."""

    workers: list[Hand]
    links: int
    asked: list[Asked]
    faults: list[Fault]


def plan(seed: int, start: float) -> Plan:
    """What this seed decides."""
    random = Random(seed)
    links = random.choice((1, 1, 2))
    ids = random.choice(("yes", "no", "mixed"))
    workers = [
        Hand(
            slots=random.choice((1, 1, 2, 4)),
            ids=random.random() < 0.5 if ids == "mixed" else ids == "yes",
            link=random.randrange(-1 if random.random() < 0.2 else 0, links),
        )
        for _ in range(random.choice((1, 2, 2, 3)))
    ]
    asked = [_asked(random, number, start) for number in range(1, random.choice((1, 2, 3, 4)) + 1)]
    count = random.choice((0, 1, 1, 2, 2, 3, 4))
    faults = [_fault(random, len(workers), links) for _ in range(count)]
    return Plan(workers, links, asked, sorted(faults, key=lambda fault: fault.at))


def _asked(random: Random, number: int, start: float) -> Asked:
    slow = random.random() < 0.03
    tokens = random.choice((1, 5, 10, 20, 30))
    task = Task(
        tokens=tokens,
        prefill=random.choice((0.05, 0.2, 0.2, 1.0, 4.0)),
        interval=random.choice((0.02, 0.1, 0.3, 0.5)),
        together=random.choice((1, 1, 1, 3)),
        padding=120_000 if slow else 0,
        poison=random.random() < 0.03,
    )
    return Asked(
        number=number,
        task=task,
        at=start + 1.0 + random.random() * random.choice((0.5, 5.0, 10.0)),
        deadline=random.choice((12.0, 30.0, 200.0, 200.0, 200.0)),
        stream=random.random() < 0.85,
        seamless=random.random() < 0.9,
        leaves_after=random.uniform(0.0, 20.0) if random.random() < 0.2 else None,
        reads_every=random.choice((0.5, 2.0, -1.0)) if slow else 0.0,
    )


def _fault(random: Random, workers: int, links: int) -> Fault:
    (kind,) = random.choices(list(KINDS), list(KINDS.values()))
    # Most in the first seconds, when most of the work is done.
    at = 0.5 + min(random.expovariate(0.2), CALM_AFTER)
    if kind == "noise":
        noise = Noise(
            drop=random.choice((0.0, 0.02, 0.1, 0.4)),
            double=random.choice((0.0, 0.1, 0.3)),
            reorder=random.choice((0.0, 0.1, 0.5)),
            late=random.choice((0.05, 1.0, 5.0)),
        )
        # -1 is the edge's own link.
        whom = random.randrange(-1, links)
        return Fault(at, kind, whom, random.uniform(1.0, 30.0), noise=noise)
    if kind == "link cut":
        seconds = random.choice((random.uniform(1.0, 8.0), random.uniform(8.0, 60.0)))
        return Fault(at, kind, random.randrange(links), seconds, how=random.choice(CUTS))
    seconds = {
        "worker stopped": random.choice((random.uniform(1, 8), random.uniform(8, 60))),
        "worker drained": random.choice((0.0, 2.0, 30.0)),
        "engine died": random.uniform(0.0, 1.0),
        "hub restarted": random.choice((0.05, 1.0, random.uniform(1.0, 15.0))),
        "heartbeats lost": random.uniform(5.0, 30.0),
    }.get(kind, 0.0)
    return Fault(at, kind, random.randrange(workers), seconds)
