"""A folder of model files, ``models.d/``, as a catalogue: what is good, and what is wrong."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from headrace.catalogue import model
from headrace.catalogue.model import ModelFile
from headrace.protocol.names import Slug
from headrace.runtime import modelfolder
from headrace.runtime.problems import FileRefusedError, Problem

MAX_FILES: Final = 1000
"""Model files in one folder; what comes after them by name is refused."""


class CatalogueError(Exception):
    """The folder itself cannot be read: nothing is known, which is not that there is nothing."""


class Entry(msgspec.Struct, frozen=True):
    """A good model file."""

    file: str
    """The file's name, without the folder."""
    digest: str
    """SHA-256 of its bytes."""
    model: ModelFile


class Catalogue(msgspec.Struct, frozen=True):
    """All models by slug, in the order of their files' names, and what was refused."""

    entries: dict[Slug, Entry]
    problems: tuple[Problem, ...] = ()


class Changes(msgspec.Struct, frozen=True):
    """What is different from one catalogue to the next, by slug."""

    added: tuple[Slug, ...]
    removed: tuple[Slug, ...]
    changed: tuple[Slug, ...]


def load(folder: Path, before: Catalogue | None = None) -> Catalogue:
    """The models of `folder`. Raises CatalogueError where it cannot be listed.

    A model of `before` whose file is bad now (half written, say) stays as it was until the file is
    good again or gone: a slip of the editor must not end what serves.
    """
    try:
        contents, problems = modelfolder.read(folder, MAX_FILES)
    except OSError as error:
        raise CatalogueError(f"{folder}: cannot be read: {error.strerror}") from error
    return catalogue_of(contents, before, problems)


def catalogue_of(
    texts: Mapping[str, bytes], before: Catalogue | None = None, problems: Iterable[Problem] = ()
) -> Catalogue:
    """The catalogue of files given by name and content; see `load` for `before`."""
    refused = list(problems)
    old = {entry.file: entry for entry in before.entries.values()} if before else {}
    good: list[Entry] = []
    for name, data in sorted(texts.items()):
        try:
            good.append(_entry(name, data, old.get(name)))
        except FileRefusedError as error:
            refused.append(Problem(name, error.line, error.reason))
    clashes = _clashes(good)
    refused += clashes
    bad = {problem.file for problem in refused}
    kept = [entry for entry in good if entry.file not in bad]
    taken = {word for entry in kept for word in _words(entry)}
    for name in sorted(bad & old.keys()):
        words = _words(old[name])
        if taken.isdisjoint(words):
            kept.append(old[name])
            taken |= words
    kept.sort(key=lambda entry: entry.file)
    refused.sort(key=lambda problem: (problem.file, problem.line))
    return Catalogue({entry.model.queue: entry for entry in kept}, tuple(refused))


def changes(old: Catalogue, new: Catalogue) -> Changes:
    """What has been added, removed and changed. A comment or a file's new name is no change."""
    before, after = old.entries, new.entries
    return Changes(
        added=tuple(slug for slug in after if slug not in before),
        removed=tuple(slug for slug in before if slug not in after),
        changed=tuple(
            slug for slug in after if slug in before and after[slug].model != before[slug].model
        ),
    )


def _entry(name: str, data: bytes, old: Entry | None) -> Entry:
    digest = hashlib.sha256(data).hexdigest()
    if old is not None and old.digest == digest:
        return old
    return Entry(name, digest, model.read(modelfolder.text_of(data)))


def _clashes(entries: Iterable[Entry]) -> list[Problem]:
    """A problem for every file whose name or slug another one has too, with the other's name."""
    owners: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        for word in _words(entry):
            owners[word].append(entry)
    found: dict[str, Problem] = {}
    for word, several in sorted(owners.items()):
        for entry in several if len(several) > 1 else ():
            others = ", ".join(other.file for other in several if other is not entry)
            found[entry.file] = Problem(entry.file, 0, f"{word!r} is the model of {others} too")
    return list(found.values())


def _words(entry: Entry) -> frozenset[str]:
    """What clients may call it: no other model may be called so."""
    return frozenset((entry.model.name, entry.model.queue))
