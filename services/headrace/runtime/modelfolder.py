"""The model files of a folder, ``models.d/``, as bytes: which they are, and which can't be read."""

import os
import stat
from pathlib import Path
from typing import Final

from headrace.runtime.problems import FileRefusedError, Problem

MAX_FILE_BYTES: Final = 64 * 1024


def read(folder: Path, most: int) -> tuple[dict[str, bytes], list[Problem]]:
    """The content of each model file by its name, sorted, and what is wrong with the others.

    What comes after `most` files is refused. Raises OSError where `folder` can't be listed.
    """
    found = sorted(path.name for path in folder.iterdir() if is_model_file(path.name))
    problems = [Problem(name, 0, f"more than {most} model files") for name in found[most:]]
    contents: dict[str, bytes] = {}
    for name in found[:most]:
        try:
            contents[name] = _bytes_of(folder / name)
        except FileNotFoundError:
            continue  # gone since the folder was listed
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            problems.append(Problem(name, 0, f"cannot be read: {reason}"))
    return contents, problems


def is_model_file(name: str) -> bool:
    """Whether a file of this name is a model: not what is hidden, nor an editor's backup."""
    # Editors leave `x.toml~`, `#x.toml#`, `.#x.toml`, `.x.toml.swp`; ours end in `.toml` alone.
    return name.endswith(".toml") and not name.startswith((".", "#")) and name.isprintable()


def text_of(content: bytes) -> str:
    """A file's content as text. Raises FileRefusedError."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise FileRefusedError(1 + content[: error.start].count(b"\n"), "not UTF-8") from None


def _bytes_of(path: Path) -> bytes:
    """The content of a plain file. Raises OSError, or ValueError for what is none or too large."""
    # Not blocking: a pipe of that name must not stop whoever reads.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a plain file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES} bytes")
    return content
