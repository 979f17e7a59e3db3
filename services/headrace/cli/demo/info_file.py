"""`info.json`: what programs may want to know of a running demo. There only while it serves."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from headrace.cli.demo import engine_watch
from headrace.cli.demo.job_watch import JobWatch
from headrace.cli.demo.supervisor import Supervisor
from headrace.cli.setup.credentials import write_private

LOOK_SECONDS: Final = 0.3


class DemoInfo(msgspec.Struct, frozen=True):
    """The file's content."""

    base_url: str
    """What OpenAI's clients call the base URL: it ends with ``/v1``."""
    api_key: str
    model: str
    pids: dict[str, int] = {}
    engines: dict[str, str] = {}
    """Where each worker's engine listens: ``unix:PATH``."""


def is_worker(name: str) -> bool:
    """Whether this is the name of a worker, which has an engine."""
    return name.startswith("worker-")


class InfoFile:
    """Keeps the file true while parts end and come again. It appears with the first `show`."""

    def __init__(
        self,
        path: Path,
        info: DemoInfo,
        keepers: Sequence[Supervisor],
        jobs: JobWatch | None = None,
    ) -> None:
        self._path = path
        self._info = info
        self._keepers = keepers
        self._names = {keeper.part.name for keeper in keepers}
        self._jobs = jobs
        self._shown = False

    def show(self) -> DemoInfo:
        """Write the file as of now."""
        self._shown = True
        self._write(self._current())
        return self._info

    async def watch(self) -> None:
        """Write the file again whenever something has changed."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._shown and not self._is_true() and (current := self._current()) != self._info:
                self._write(current)

    def _is_true(self) -> bool:
        """Whether what was written holds. Cheap, unlike looking for engines in all of /proc."""
        parts = {name: pid for name, pid in self._info.pids.items() if name in self._names}
        every = set(parts) == self._names
        engines = self._info.engines.keys() & self._names
        found = len(engines) == sum(is_worker(name) for name in self._names)
        settled = self._jobs is None or self._jobs.settled()
        return every and found and settled and parts == self._parts()

    def _parts(self) -> dict[str, int]:
        return {keeper.part.name: keeper.pid for keeper in self._keepers if keeper.pid}

    def _current(self) -> DemoInfo:
        pids = self._parts()
        engines = {}
        for name, worker in list(pids.items()):
            # A worker ends with its engine, so an engine is looked for once per worker.
            engine = engine_watch.find(worker) if is_worker(name) else None
            if engine is not None:
                pids[name.replace("worker", "engine")], engines[name] = engine
        if self._jobs is not None:
            self._jobs.look()
            pids |= self._jobs.pids
            engines |= self._jobs.engines
        return msgspec.structs.replace(self._info, pids=pids, engines=engines)

    def _write(self, info: DemoInfo) -> None:
        # It holds a key, so it is its owner's alone.
        write_private(self._path, json.dumps(msgspec.to_builtins(info), indent=2) + "\n")
        self._info = info
