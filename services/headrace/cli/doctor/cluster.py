"""Looks at a cluster's side, from its service node."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from headrace.catalogue import loader, status
from headrace.catalogue.loader import Catalogue, CatalogueError
from headrace.catalogue.worker import ClusterOptions, batch_script
from headrace.cli.doctor import checks, leaf
from headrace.cli.doctor.finding import Finding, bad, ok
from headrace.cli.operate import context
from headrace.cli.operate.context import ScalerFile
from headrace.protocol.names import Slug
from headrace.runtime.config import ConfigError, read_secret
from headrace.runtime.nats.bus import BusOptions
from headrace.slurm import shell
from headrace.slurm.client import SlurmClient
from headrace.slurm.commands import Command
from headrace.slurm.record import new_submission

PROGRAMS: Final = ("sbatch", "squeue", "scancel", "sinfo", "scontrol")
TRIAL_SECONDS: Final = 20.0
MAX_TRIALS: Final = 50
"""Models whose job is tried: slurmctld has other things to do."""


async def look(config_file: Path) -> list[Finding]:
    """Every hop from `config_file` on, the nearest first."""
    try:
        options = context.load(config_file)
    except ConfigError as error:
        return [bad("scaler.toml", str(error), "edit it; `headrace init` writes an example")]
    found = [ok("scaler.toml", f"{config_file} can be read")]
    models = _models(options, found)
    found.append(_state(Path(options.state)))
    found += await _leaf(options, models)
    found += await _slurm(options, models)
    found.append(
        checks.worker_command(
            options.worker_command, shutil.which(options.worker_command[0]) is not None
        )
    )
    found += _scaler(Path(options.state))
    return found


def _models(options: ScalerFile, found: list[Finding]) -> Catalogue:
    try:
        models = loader.load(Path(options.models))
    except CatalogueError as error:
        found.append(bad("models", str(error), "make that folder"))
        return Catalogue({})
    found += checks.catalogue(options.models, models)
    return models


def _state(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder):
            problem = ""
    except OSError as error:
        problem = f"cannot be written: {error.strerror}"
    return checks.state(str(folder), problem, _kind(folder))


def _kind(folder: Path) -> str:
    """The type of the file system that holds `folder`, from /proc/mounts (proc(5))."""
    best, kind = "", ""
    for mount, each in _mounts():
        # Later lines cover earlier ones.
        if folder.resolve().is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, each
    return kind


def _mounts() -> Iterator[tuple[str, str]]:
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        if len(words) > 2:
            yield words[1].replace("\\040", " "), words[2]


async def _leaf(options: ScalerFile, models: Catalogue) -> list[Finding]:
    found = []
    usable = True
    for hop, bus in (("scaler's key", options.bus), ("workers' key", options.worker_bus)):
        problem = _secret(bus)
        usable = usable and not problem
        found.append(checks.secret(hop, problem))
    if not usable:
        return found
    try:
        reason = await leaf.visit(options.bus, worker=False)
        found.append(checks.leaf("leaf, as scaler", options.bus.url, reason))
        if not reason:
            slug = next(iter(models.entries), Slug("any"))
            found.append(checks.hub(*await leaf.ask_hub(options.bus, slug)))
        reason = await leaf.visit(options.worker_bus, worker=True)
        found.append(checks.leaf("leaf, as worker", options.worker_bus.url, reason))
    except ConfigError as error:
        found.append(bad("leaf", str(error), "edit scaler.toml"))
    return found


def _secret(bus: BusOptions) -> str:
    try:
        read_secret(bus.nkey_file)
    except ConfigError as error:
        return str(error)
    return ""


async def _slurm(options: ScalerFile, models: Catalogue) -> list[Finding]:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    found = [checks.commands(missing)]
    if missing:
        return found
    slurm = SlurmClient()
    ping = await slurm.ping()
    found.append(checks.controller(ping))
    if not ping.up:
        return found
    jobs = await slurm.jobs()
    found.append(checks.queue(jobs.problem, len(jobs.ours(options.installation, options.cluster))))
    wanted = {slug: each.model.job.partitions for slug, each in models.entries.items()}
    found += checks.partitions(await slurm.partitions(), wanted)
    return [*found, *await _trials(options, models, slurm)]


async def _trials(options: ScalerFile, models: Catalogue, slurm: SlurmClient) -> list[Finding]:
    found = []
    for slug, entry in list(models.entries.items())[:MAX_TRIALS]:
        try:
            cluster = ClusterOptions(
                name=options.cluster,
                bus=options.worker_bus,
                configs=f"{options.state}/workers",
                command=options.worker_command,
                installation=options.installation,
            )
            script = batch_script(entry.model, cluster, new_submission())
        except ValueError as error:
            found.append(bad(f"job of {slug}", str(error), "edit scaler.toml or the model's file"))
            continue
        usual = slurm.commands.sbatch(script)
        command = Command(("sbatch", "--test-only"), usual.env, usual.stdin)
        found.append(checks.trial(slug, await shell.run(command, TRIAL_SECONDS)))
    return found


def _scaler(state: Path) -> list[Finding]:
    try:
        seen = status.read(state / "status.json")
    except (OSError, msgspec.DecodeError):
        seen = None
    return checks.scaler(seen, *_lease(state / "lease"), time.time())


def _lease(path: Path) -> tuple[str, bool]:
    """Who holds the lease as far as its file tells, and whether anybody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return "", False
    with os.fdopen(descriptor, "r", encoding="utf-8", errors="replace") as file:
        holder = file.read().strip()
        try:
            # Shared: this asks, and never keeps a scaler from taking it for longer than that.
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return holder, True
        return holder, False
