"""The row of the scaler, whose workers are jobs of a real Slurm: see `tests.support.slurm_site`."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from tests.faults.harness.cell import Result, verdicts
from tests.faults.harness.clients import Client, session
from tests.faults.harness.faults import Blow, Fault
from tests.faults.harness.phases import BEGUN_TOKENS, FEW, Phase
from tests.faults.harness.site import until
from tests.faults.harness.verdict import Asked, Edge
from tests.support.slurm_site import Farm, running

FAULTS = (Fault("scaler", "kill"), Fault("scaler", "stop", 6), Fault("scaler", "term"))
PHASES = (Phase.QUEUED, Phase.MID_STREAM)
"""In the others nobody needs it."""
TOKENS = 150
WAIT_SECONDS = 120.0
SCALER = "alpha-scaler"


async def cells(folder: Path) -> AsyncIterator[Result]:
    """Play all of them."""
    context = running(folder)  # kept: with its generator the farm would end
    farm = await asyncio.to_thread(context.__enter__)
    try:
        await asyncio.to_thread(lambda: farm.serve(scale={"min": 0, "max": 1}))
        for fault in FAULTS:
            for phase in PHASES:
                yield await cell(farm, fault, phase)
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


async def cell(farm: Farm, fault: Fault, phase: Phase) -> Result:
    """Requests for a model that sleeps (queued) or runs; a fault; and what became of each."""
    (place,) = farm.places.values()
    if phase is Phase.QUEUED:
        await until(lambda: not place.workers(), WAIT_SECONDS, "the model sleeps")
    async with session(farm.keys[0], WAIT_SECONDS) as http:
        clients = _ask(farm, http, f"{fault.name} {phase}")
        if phase is Phase.QUEUED:
            await until(lambda: all(each.seen.comments for each in clients), 10, "all wait")
        else:
            await until(
                lambda: all(each.seen.tokens >= BEGUN_TOKENS or each.ended for each in clients),
                WAIT_SECONDS,
                "all have begun",
            )
        await _strike(farm, fault)
        await asyncio.gather(*(client.end() for client in clients))
    return Result(
        blow=Blow(fault, ""),
        phase=phase,
        verdicts=tuple(verdicts(clients, Edge.UP)),
        slowest=max(client.seen.seconds for client in clients),
    )


def _ask(farm: Farm, http: aiohttp.ClientSession, name: str) -> list[Client]:
    # No more than the one job's slots: all of them begin at once.
    clients = [Client(Asked(f"{name} {number}", TOKENS)) for number in range(min(FEW, 4))]
    for client in clients:
        client.start(http, farm.base_url, str(farm.info["model"]))
    return clients


async def _strike(farm: Farm, fault: Fault) -> None:
    process = farm.processes[SCALER]
    match fault.kind:
        case "stop":
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(fault.seconds)
            process.send_signal(signal.SIGCONT)
        case "kill":
            farm.kill(SCALER)
            farm.restart(SCALER)
        case "term":
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait, 20)
            farm.restart(SCALER)
