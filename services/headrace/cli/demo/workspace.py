"""The demo's folder: configuration, keys, logs, and a short place for sockets."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from headrace.cli.setup import values
from headrace.cli.setup.credentials import write_private
from headrace.cli.setup.installation import private_directory
from headrace.gateway.policy import api_keys
from headrace.runtime.lifecycle import FatalError

MAX_RUN_PATH: Final = 60
"""A Unix socket's path has at most 107 bytes, and a worker adds folders of its own."""


class Workspace(msgspec.Struct, frozen=True):
    """Where the demo keeps what."""

    root: Path
    run: Path
    """For sockets and what sshd reads: short, and without a character that needs quoting."""

    @property
    def web(self) -> Path:
        """The web machine's folder, as `headrace init` makes it."""
        return self.root / "web"

    @property
    def cluster(self) -> Path:
        """The cluster's folder."""
        return self.root / "clusters" / CLUSTER

    @property
    def state(self) -> Path:
        """What the scaler keeps, with `--slurm`."""
        return self.cluster / "state"

    @property
    def slurm(self) -> Path:
        """All files of the demo's own Slurm."""
        return self.run / "slurm"

    @property
    def logs(self) -> Path:
        """One log for each process."""
        return self.root / "logs"

    @property
    def info(self) -> Path:
        """There while the demo serves."""
        return self.root / "info.json"

    def api_key(self) -> str:
        """The demo's key: the same at every start."""
        path = self.root / "api.key"
        key = path.read_text(encoding="utf-8").strip() if path.exists() else ""
        if not api_keys.well_formed(key):
            key = api_keys.mint()
            write_private(path, f"{key}\n")
        return key


CLUSTER: Final = "local"


LOCK: Final = "demo.lock"
"""Also marks the folder as a demo's own: in no other one anything is replaced or removed."""

OURS: Final = ("web", "clusters", "logs", "run")


@contextmanager
def opened(root: Path) -> Iterator[Workspace]:
    """The workspace at `root`, ours alone. Raises FatalError where it can't be."""
    root = root.absolute()
    values.quotable_path(str(root))
    if not (root / LOCK).is_file() and any((root / name).exists() for name in OURS):
        raise FatalError(f"{root} holds something else; say --dir for a folder of the demo's own")
    for folder in (root, root / "logs"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (root / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FatalError(
                f"a demo runs already in {root}; say --dir for another folder"
            ) from None
        for old in [root / "info.json", *(root / "logs").glob("*.log")]:
            old.unlink(missing_ok=True)
        with _run_directory(root) as run:
            try:
                yield Workspace(root, run)
            finally:
                (root / "info.json").unlink(missing_ok=True)


@contextmanager
def _run_directory(root: Path) -> Iterator[Path]:
    inside = root / "run"
    if len(str(inside)) <= MAX_RUN_PATH and _is_plain(inside):
        shutil.rmtree(inside, ignore_errors=True)
        private_directory(inside)
        yield inside
        return
    with tempfile.TemporaryDirectory(prefix="headrace-", ignore_cleanup_errors=True) as outside:
        yield Path(outside)


def _is_plain(path: Path) -> bool:
    try:
        values.plain_path(str(path))
    except ValueError:
        return False
    return True
