"""The external models of a folder, and what is wrong with their files."""

import tomllib
from pathlib import Path
from typing import Final

import msgspec

from headrace.external import model
from headrace.external.model import ExternalModel
from headrace.protocol.names import Slug
from headrace.runtime import modelfolder
from headrace.runtime.config import ConfigError
from headrace.runtime.problems import FileRefusedError, Problem

MAX_FILES: Final = 200


class ExternalFolder(msgspec.Struct, frozen=True):
    """What was found."""

    models: dict[Slug, ExternalModel]
    files: dict[str, Slug]
    """Of each good file, by its name."""
    problems: tuple[Problem, ...]


def load(folder: Path, *, others: bool = False) -> ExternalFolder:
    """Every model of `folder`. With `others` files of other models are passed over. Raises OSError.

    A file is refused as a whole, with its line and the reason.
    """
    models: dict[Slug, ExternalModel] = {}
    files: dict[str, Slug] = {}
    taken: dict[str, str] = {}
    contents, problems = modelfolder.read(folder, MAX_FILES)
    for name, content in contents.items():
        try:
            text = modelfolder.text_of(content)
            if others and not _is_external(text):
                continue
            one = model.read(text)
            _fits(one, models, taken)
        except FileRefusedError as error:
            problems.append(Problem(name, error.line, error.reason))
            continue
        models[one.queue] = one
        files[name] = one.queue
        taken |= dict.fromkeys((one.name, str(one.queue)), name)
    problems.sort(key=lambda problem: problem.file)
    return ExternalFolder(models, files, tuple(problems))


def _fits(one: ExternalModel, models: dict[Slug, ExternalModel], taken: dict[str, str]) -> None:
    """Raise FileRefusedError where a model can't be beside those before it."""
    for word in sorted({one.name, str(one.queue)}):
        if word in taken:
            raise FileRefusedError(0, f"{word!r} is the model of {taken[word]} too")
    if {each.price.currency for each in models.values()} - {one.price.currency}:
        raise FileRefusedError(0, "price.currency: every model of a site has the same one")


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
