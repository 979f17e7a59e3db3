"""Telling one Slurm job to drain, after making sure that it is the scaler's own."""

import asyncio
import time

import click

from headrace.catalogue.status import Status
from headrace.cli.operate import freshness
from headrace.cli.operate.context import StateFolder
from headrace.slurm.client import Slurm, SlurmClient
from headrace.slurm.squeue import JobList
from headrace.slurm.states import SlurmPhase


def drain(where: StateFolder, job: int, slurm: Slurm | None = None) -> str:
    """SIGTERM to the worker of `job`; returns what to tell. Raises ClickException.

    A job that loads serves nobody, and may not have a worker yet that SIGTERM could reach: it is
    cancelled.
    """
    return asyncio.run(_drain(where, job, slurm or SlurmClient()))


async def _drain(where: StateFolder, job: int, slurm: Slurm) -> str:
    status = where.status()
    why_not = refusal(await slurm.jobs(), job, status, where.installation)
    if why_not:
        raise click.ClickException(why_not)
    cancel = loads(job, status, time.time())
    change = await (slurm.cancel if cancel else slurm.drain)([job])
    if change.problem:
        raise click.ClickException(f"scancel: {change.problem}")
    if cancel:
        return f"job {job} served nobody yet, and was cancelled"
    return f"job {job} was told to drain: it takes nothing new, finishes what it has, and ends"


def loads(job: int, status: Status, now: float) -> bool:
    """Whether `job` certainly does not serve yet."""
    rows = [worker for model in status.models for worker in model.workers if worker.job == job]
    return not freshness.of(status, now).stale and any(row.phase == "loading" for row in rows)


def refusal(found: JobList, job: int, status: Status, installation: str) -> str:
    """Why `job` is not to be touched; empty where it may be told.

    Where the installation is not known, the scaler's own list of its jobs stands for it.
    """
    if not found.trusted:
        return f"squeue: {found.problem}. Nothing was done."
    listed = {job.id: job for job in found.jobs}
    if job not in listed:
        return f"Slurm knows no job {job} of this account"
    theirs = listed[job]
    known = {worker.job for model in status.models for worker in model.workers}
    of_ours = theirs.record is not None and theirs.record.cluster == status.cluster
    if of_ours and theirs.record is not None and installation:
        of_ours = theirs.record.installation == installation
    elif of_ours:
        of_ours = job in known
    if not of_ours:
        return f"job {job} ({theirs.name}) is not a job of this scaler's. Nothing was done."
    if theirs.phase is not SlurmPhase.RUNNING:
        return f"job {job} does not run ({theirs.state.main}): there is nothing to drain"
    return ""
