"""Slurm as a service sees it: a few questions and wishes, each with a time-out.

`Slurm` is what the scaler is written against, `SlurmClient` the real one, and
`headrace.testing.fake_slurm.FakeSlurm` another one with a clock of its own.
"""

import os
import pwd
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from headrace.slurm import sbatch, scontrol, shell, sinfo, squeue
from headrace.slurm.commands import MAX_IDS, Command, Commands
from headrace.slurm.output import CommandOutput
from headrace.slurm.sbatch import Submission
from headrace.slurm.scontrol import Change, JobDetail, Ping
from headrace.slurm.sinfo import Nodes, Partitions
from headrace.slurm.squeue import JobList


class Slurm(Protocol):
    """The questions and wishes. None of them raises for what Slurm answers or fails to answer."""

    async def submit(self, script: str) -> Submission:
        """Submit a batch script."""

    async def jobs(self) -> JobList:
        """Every job of our account, those that wait with their expected start: one command."""

    async def start_estimates(self) -> JobList:
        """The jobs that wait alone, as ``squeue --start`` tells them."""

    async def cancel(self, ids: Iterable[int]) -> Change:
        """End jobs, whatever they do."""

    async def cancel_waiting(self, ids: Iterable[int]) -> Change:
        """End those of these jobs that still wait; one that runs by now goes on."""

    async def drain(self, ids: Iterable[int]) -> Change:
        """SIGTERM to the workers of running jobs; jobs that wait are left as they are."""

    async def nodes(self) -> Nodes:
        """Every node."""

    async def partitions(self) -> Partitions:
        """Every partition."""

    async def detail(self, job: int) -> JobDetail:
        """All that the controller knows of one job."""

    async def ping(self) -> Ping:
        """Whether a controller answers."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds until a command is given up. Slurm itself waits for 10 s and tries again."""

    read: float = 30.0
    submit: float = 60.0
    """Longer, for a submission whose answer is lost leaves work behind: to find it again."""


class SlurmClient:
    """The real Slurm, through its own commands."""

    def __init__(
        self,
        commands: Commands | None = None,
        timeouts: Timeouts | None = None,
        *,
        json: bool = False,
    ) -> None:
        """`json` asks squeue for JSON, which needs Slurm 23.02 or later with its JSON plugin."""
        self.commands = commands or Commands(os.environ, account())
        self._timeouts = timeouts or Timeouts()
        self._json = json

    async def submit(self, script: str) -> Submission:
        """Submit a batch script."""
        command = self.commands.sbatch(script)
        return sbatch.parse(await shell.run(command, self._timeouts.submit))

    async def jobs(self) -> JobList:
        """Every job of our account."""
        if self._json:
            return squeue.parse_json(await self._read(self.commands.squeue_json()))
        return squeue.parse(await self._read(self.commands.squeue()))

    async def start_estimates(self) -> JobList:
        """The jobs that wait."""
        return squeue.parse(await self._read(self.commands.squeue_start()))

    async def cancel(self, ids: Iterable[int]) -> Change:
        """End jobs."""
        return await self._each(self.commands.scancel, ids)

    async def cancel_waiting(self, ids: Iterable[int]) -> Change:
        """End jobs that still wait."""
        return await self._each(self.commands.scancel_pending, ids)

    async def drain(self, ids: Iterable[int]) -> Change:
        """SIGTERM to the workers of running jobs."""
        return await self._each(self.commands.signal, ids)

    async def nodes(self) -> Nodes:
        """Every node."""
        return sinfo.parse_nodes(await self._read(self.commands.sinfo_nodes()))

    async def partitions(self) -> Partitions:
        """Every partition."""
        return sinfo.parse_partitions(await self._read(self.commands.sinfo_partitions()))

    async def detail(self, job: int) -> JobDetail:
        """All that the controller knows of one job."""
        return scontrol.parse_job(await self._read(self.commands.show_job(job)))

    async def ping(self) -> Ping:
        """Whether a controller answers."""
        return scontrol.parse_ping(await self._read(self.commands.ping()))

    async def requeue(self, job: int) -> Change:
        """Put a running job back into the queue."""
        return scontrol.parse_change(await self._read(self.commands.requeue(job)))

    async def hold(self, job: int) -> Change:
        """Keep a job that waits from starting."""
        return scontrol.parse_change(await self._read(self.commands.hold(job)))

    async def release(self, job: int) -> Change:
        """Let a held job start."""
        return scontrol.parse_change(await self._read(self.commands.release(job)))

    async def update(self, job: int, **changes: str) -> Change:
        """Change a job: see `Commands.update`."""
        return scontrol.parse_change(await self._read(self.commands.update(job, **changes)))

    async def _read(self, command: Command) -> CommandOutput:
        return await shell.run(command, self._timeouts.read)

    async def _each(
        self, command: Callable[[Sequence[int]], Command], ids: Iterable[int]
    ) -> Change:
        """One command for up to `MAX_IDS` jobs after the other; the first problem is told."""
        wanted = list(ids)
        problem = ""
        for start in range(0, len(wanted), MAX_IDS):
            output = await self._read(command(wanted[start : start + MAX_IDS]))
            problem = problem or scontrol.parse_change(output).problem
        return Change(problem)


def account() -> str:
    """The name of the account that this process runs as, which sbatch submits as."""
    return pwd.getpwuid(os.geteuid()).pw_name


def local(environ: Mapping[str, str]) -> SlurmClient:
    """A client of the Slurm that `environ` adds to this process's environment (SLURM_CONF)."""
    return SlurmClient(Commands({**os.environ, **environ}, account()))
