"""The demo itself: everything started, kept running, and ended in order."""

import asyncio
import os
from pathlib import Path
from typing import Final

import click
import msgspec
import structlog

from headrace.cli.demo import (
    components,
    model_file,
    ports,
    processes,
    progress,
    signals,
    site,
    slurm,
    ssh_server,
    workspace,
)
from headrace.cli.demo.engines import MODEL, Engine, table
from headrace.cli.demo.info_file import DemoInfo, InfoFile, is_worker
from headrace.cli.demo.job_watch import JobWatch
from headrace.cli.demo.screen import Screen, nearest
from headrace.cli.demo.supervisor import Supervisor
from headrace.cli.demo.workspace import Workspace
from headrace.cli.setup.site import Site
from headrace.devcluster import loopback
from headrace.runtime import lifecycle
from headrace.runtime.lifecycle import FatalError, Lifecycle
from headrace.runtime.logging import Logger

PROCESSORS: Final = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    structlog.processors.EventRenamer("action"),
    structlog.processors.JSONRenderer(),
)


class Settings(msgspec.Struct, frozen=True):
    """What the person asked for."""

    port: int
    engine: Engine
    workers: int
    slurm: bool = False


def serve(port: int, engine: str, workers: int, directory: Path, *, slurm: bool = False) -> int:
    """Run the demo in `directory` until a signal; returns the exit code. Raises ClickException."""
    settings = Settings(port=port, engine=Engine(engine), workers=workers, slurm=slurm)
    screen = Screen()
    scaled = "jobs of a Slurm on this machine" if slurm else str(workers)
    screen.say(f"headrace demo: engine {engine}, workers {scaled}")
    try:
        with (
            workspace.opened(directory) as opened,
            (opened.logs / "demo.log").open("a", encoding="utf-8", buffering=1) as file,
        ):
            # The terminal is for people; what the lifecycle logs goes beside the daemons' logs.
            log: Logger = structlog.wrap_logger(structlog.WriteLogger(file), PROCESSORS)
            return lifecycle.run(lambda life: run(life, settings, opened, screen), log)
    except (FatalError, ValueError) as error:
        raise click.ClickException(str(error)) from error


HINT: Final = """
Look in another terminal, and see the job end a minute after the last request:
  headrace top --state {state}
  SLURM_CONF={conf} squeue"""


async def run(life: Lifecycle, settings: Settings, place: Workspace, screen: Screen) -> int:
    """Serve until told to stop; nothing of it survives."""
    signals.listen(life)
    processes.adopt_orphans()
    if not loopback.is_free(settings.port):
        raise FatalError(
            f"port {settings.port} of 127.0.0.1 is taken by another program. "
            "Say --port for another one (make demo PORT=8081)."
        )
    if settings.slurm:
        slurm.check()
    made, keepers = prepare(settings, place, screen)
    info = DemoInfo(f"http://127.0.0.1:{settings.port}/v1", place.api_key(), MODEL)
    jobs = JobWatch(place.state / "status.json") if settings.slurm else None
    published = InfoFile(place.info, info, keepers, jobs)
    patient = settings.engine is not Engine.VLLM and not settings.slurm
    hint = HINT.format(state=nearest(place.state), conf=place.slurm / "slurm.conf")
    hint = hint if settings.slurm else ""
    try:
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(keeper.run(), name=keeper.part.name) for keeper in keepers]
            aside = [
                group.create_task(published.watch()),
                group.create_task(collect(keepers)),
                group.create_task(
                    progress.tell(
                        screen, made, info, keepers, published, patient=patient, hint=hint
                    )
                ),
            ]
            await life.stopping.wait()
            screen.say("stopping")
            for task in aside:
                task.cancel()
            await end(keepers, place.slurm if settings.slurm else None)
            for task in keeping:  # one may be waiting for its next start
                task.cancel()
    finally:
        processes.kill_descendants()
    screen.say("everything has ended")
    return 0


def prepare(settings: Settings, place: Workspace, screen: Screen) -> tuple[Site, list[Supervisor]]:
    """Choose ports, write every file, and return what is to be kept running."""
    engine = table(settings.engine, place.root)
    names = (*ports.NAMES, *(slurm.PORTS if settings.slurm else ()))
    chosen = ports.choose(place.root / "ports.json", [settings.port], names)
    made = site.make(place, chosen, settings.port, planned=settings.slurm)
    line = site.install(place, made, engine)
    if settings.slurm:
        model_file.install(place, made.clusters[0], engine, settings.workers)
        slurm.write(place.slurm, chosen)
    screen.say(f"configuration and keys are in {nearest(place.root)}/")
    server = ssh_server.prepare(place.run, line, chosen["ssh"])
    if server.remark:
        screen.say(server.remark)
    if settings.slurm:
        working = components.scaled(place, made, chosen)
    else:
        working = components.by_hand(place, made, settings.engine, settings.workers)
    environ = slurm.plain(os.environ.items())
    every = components.all_of(place, made, server, working)
    return made, [Supervisor(part, place.logs, environ, screen.say) for part in every]


async def end(keepers: list[Supervisor], slurm_at: Path | None) -> None:
    """End everything: what takes requests first, what carries them last."""
    edge, *rest = keepers
    workers = [keeper for keeper in rest if is_worker(keeper.part.name)]
    await edge.end()
    await asyncio.gather(*(worker.end() for worker in workers))
    for keeper in rest:
        await keeper.end()
        if slurm_at is not None and keeper.part.name == "scaler":
            await slurm.end_jobs(slurm_at)  # before anything that they need


COLLECT_SECONDS: Final = 10.0
"""Seldom, for it looks at every process of the machine."""


async def collect(keepers: list[Supervisor]) -> None:
    """Collect the orphans that we have adopted, when they have ended."""
    while True:
        await asyncio.sleep(COLLECT_SECONDS)
        processes.bury({keeper.pid for keeper in keepers})
