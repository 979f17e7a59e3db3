"""The external models of a folder, and what is wrong with their files."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Final

import msgspec

from headrace.protocol.names import Slug
from headrace.runtime.config import ConfigError
from headrace.runtime.external import model
from headrace.runtime.external.model import ExternalModel
from headrace.runtime.problems import Problem, Refused

MAX_FILES: Final = 200
MAX_FILE_BYTES: Final = 64 * 1024


class Folder(msgspec.Struct, frozen=True):
    """What was found."""

    models: dict[Slug, ExternalModel]
    files: dict[str, Slug]
    """Of each good file, by its name."""
    problems: tuple[Problem, ...]


def load(folder: Path, *, others: bool = False) -> Folder:
    """Every model of `folder`. With `others` files of other models are passed over. Raises OSError.

    A file is refused as a whole, with its line and the reason.
    """
    models: dict[Slug, ExternalModel] = {}
    files: dict[str, Slug] = {}
    problems: list[Problem] = []
    taken: dict[str, str] = {}
    found = sorted(p for p in folder.iterdir() if p.suffix == ".toml" and p.name[0] not in ".#")
    for path in found[:MAX_FILES]:
        try:
            text = _text(path)
            if others and not _is_external(text):
                continue
            one = model.read(text)
            _fits(one, models, taken)
        except Refused as error:
            problems.append(Problem(path.name, error.line, error.reason))
            continue
        models[one.queue] = one
        files[path.name] = one.queue
        taken |= dict.fromkeys((one.name, str(one.queue)), path.name)
    problems += [Problem(path.name, 0, "too many model files") for path in found[MAX_FILES:]]
    return Folder(models, files, tuple(problems))


def _fits(one: ExternalModel, models: dict[Slug, ExternalModel], taken: dict[str, str]) -> None:
    """Raise Refused where a model can't be beside those before it."""
    for word in sorted({one.name, str(one.queue)}):
        if word in taken:
            raise Refused(0, f"{word!r} is the model of {taken[word]} too")
    if {each.price.currency for each in models.values()} - {one.price.currency}:
        raise Refused(0, "price.currency: every model of a site has the same one")


def load_all(folder: Path) -> dict[Slug, ExternalModel]:
    """The models of `folder`, every file of which must be good. Raises ConfigError."""
    try:
        found = load(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from error
    if found.problems:
        raise ConfigError("\n".join(f"{folder}/{problem}" for problem in found.problems))
    return found.models


def _is_external(text: str) -> bool:
    try:
        return model.is_external(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return False  # whoever reads the others says what is wrong


def _text(path: Path) -> str:
    # Not blocking: a pipe of that name must not stop whoever reads.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(0, f"cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused(0, "not a plain file")
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise Refused(0, f"larger than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refused(1 + data[: error.start].count(b"\n"), "not UTF-8") from None
