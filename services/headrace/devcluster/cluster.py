"""Runs and breaks the Slurm that `headrace.devcluster.local` describes, and leaves nothing.

Plain blocking code for tests and the demo: a service never imports this module.
"""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from headrace.devcluster import local, processes
from headrace.devcluster.local import Daemon, LocalOptions
from headrace.devcluster.loopback import free_ports

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
START_ATTEMPTS: Final = 3

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class LocalSlurmError(Exception):
    """The local Slurm does not do what it was asked to; the text has the end of the log."""


class LocalSlurm:
    """One local Slurm. Also a context manager: ``with LocalSlurm(root) as slurm: …``.

    `wrap` is put before each daemon's argv, for a caller that keeps its children on a leash;
    `environ` is added to the daemons' own few variables, for one that marks them.
    """

    def __init__(
        self,
        root: Path,
        options: LocalOptions | None = None,
        *,
        wrap: Sequence[str] = (),
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.root = root.resolve()
        self.options = options or LocalOptions()
        self.conf = self.root / "slurm.conf"
        self._wrap = tuple(wrap)
        self._base = {"PATH": _PATH, **environ}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._fresh = True

    @property
    def environ(self) -> dict[str, str]:
        """What a Slurm command needs in its environment to reach this Slurm."""
        return {"SLURM_CONF": str(self.conf)}

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the nodes."""
        return local.node_names(self.options)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start every daemon and wait until every node is idle. Raises LocalSlurmError."""
        self.root.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                self._start_all()
            except LocalSlurmError:
                self.stop()
                # Somebody may have taken a port between our look and the daemon's.
                if attempt == START_ATTEMPTS:
                    raise
            else:
                return

    def _start_all(self) -> None:
        local.write(self.root, self.options, free_ports(len(self.nodes) + 1))
        key = self.root / "munge.key"
        key.unlink(missing_ok=True)
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(128))
        self._fresh = True
        self._start(local.munge(self.root))
        self._until((self.root / "munge.sock").exists, local.MUNGE)
        self.start_controller()
        for name in self.nodes:
            self._start(local.node(self.root, name))
        self._until(lambda: self._idle() == set(self.nodes), local.CONTROLLER)

    def stop(self) -> None:
        """End everything at once, jobs and daemons: nothing of it is needed again."""
        jobs = self.job_processes(*self.nodes)
        for name in (local.CONTROLLER, *self.nodes, local.MUNGE):
            self._end(name, signal.SIGKILL)
        self._kill_jobs(jobs | self.job_processes(*self.nodes), *self.nodes)

    def start_controller(self) -> None:
        """Start slurmctld, which remembers its jobs, and wait until it answers."""
        self._start(local.controller(self.root, fresh=self._fresh))
        self._fresh = False
        self._until(lambda: self._run("scontrol", "ping").returncode == 0, "slurmctld")

    def stop_controller(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop slurmctld, in order or with SIGKILL. Jobs run on."""
        self._end(local.CONTROLLER, number)

    def kill_node(self, name: str) -> None:
        """What a power cut does: slurmd, the job steps on that node and their processes vanish."""
        jobs = self.job_processes(name)
        self._end(name, signal.SIGKILL)
        self._kill_jobs(jobs | self.job_processes(name), name)

    def start_node(self, name: str) -> None:
        """Bring a node back; it is used again as soon as slurmctld has heard of it."""
        self._start(local.node(self.root, name))

    def job_processes(self, *nodes: str) -> set[int]:
        """The job steps on these nodes, and all that runs below them or came from there."""
        # A slurmstepd is an orphan that has written over its environment, but it works where its
        # slurmd did. What it started has its environment still, even as an orphan itself.
        steps = processes.working_in({self.root / f"spool-{node}" for node in nodes})
        conf = f"SLURM_CONF={self.conf}".encode()
        marks = {f"SLURMD_NODENAME={node}".encode() for node in nodes}
        started = {
            pid
            for pid, environ in processes.environments()
            if conf in environ and not marks.isdisjoint(environ)
        }
        daemons = {process.pid for process in self._running.values()}
        return processes.with_descendants(steps - daemons | started) - {os.getpid()}

    def pid(self, name: str) -> int:
        """The process id of a daemon: ``slurmctld``, ``munged`` or a node's name."""
        return self._running[name].pid

    def log(self, name: str) -> str:
        """All that a daemon has written."""
        file = self.root / f"log/{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _start(self, daemon: Daemon) -> None:
        with (self.root / f"log/{daemon.name}.log").open("ab") as log:
            self._running[daemon.name] = subprocess.Popen(
                [*self._wrap, *daemon.argv],
                cwd=spool if (spool := self.root / f"spool-{daemon.name}").exists() else self.root,
                env={**self._base, **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A terminal's Ctrl-C is for whoever runs this.
                start_new_session=True,
            )

    def _end(self, name: str, number: signal.Signals) -> None:
        process = self._running.pop(name, None)
        if process is None:
            return
        processes.kill_group(process.pid, number)
        processes.kill_group(process.pid, signal.SIGCONT)  # a stopped one hears nothing else
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            processes.kill_group(process.pid, signal.SIGKILL)
            process.wait()

    def _kill_jobs(self, jobs: set[int], *nodes: str) -> None:
        """Kill `jobs`, then whatever was about to be started when we looked, until none is left."""
        deadline = time.monotonic() + STOP_SECONDS
        while jobs and time.monotonic() < deadline:
            processes.kill(jobs)
            time.sleep(0.02)
            jobs = self.job_processes(*nodes)

    def _run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            env={**self._base, "LC_ALL": "C", **self.environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )

    def _idle(self) -> set[str]:
        done = self._run("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N")
        return set(done.stdout.split()) if done.returncode == 0 else set()

    def _until(self, ready: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            dead = [each for each, process in self._running.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                name = dead[0] if dead else name
                raise LocalSlurmError(f"{name} does not start:\n{self.log(name)[-4000:]}")
            time.sleep(0.1)
