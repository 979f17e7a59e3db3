"""A disk of a megabyte below a folder, to be filled. Needs root, for the mount."""

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

SIZE: Final = "1m"
_PIECE: Final = b"\0" * 4096


class SmallDisk:
    """A tmpfs at `folder`, or nothing where that can't be; `here` tells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(folder)]
        self.here = (
            os.geteuid() == 0
            and shutil.which("mount") is not None
            and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        )

    def fill(self) -> None:
        """Leave not a byte of it."""
        try:
            with self._ballast.open("ab", buffering=0) as file:
                while True:
                    file.write(_PIECE)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmount it."""
        if self.here:
            subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)
