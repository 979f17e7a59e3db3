"""What an operator says by hand: `headrace scale` writes it, every round of the scaler reads it."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from headrace.catalogue import status
from headrace.catalogue.scale import Scale

Count = Annotated[int, Meta(ge=0, le=1000)]


class Override(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds for one model that count in place of its file's."""

    min: Count | None = None
    max: Count | None = None

    def over(self, scale: Scale) -> Scale:
        """The model's scale with these bounds."""
        most = scale.max if self.max is None else self.max
        least = scale.min if self.min is None else self.min
        windows = tuple(
            msgspec.structs.replace(each, min=min(each.min, most)) for each in scale.schedule
        )
        return msgspec.structs.replace(scale, max=most, min=min(least, most), schedule=windows)


class Overrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of them, by slug."""

    models: dict[str, Override] = {}


def load(path: Path) -> Overrides:
    """The overrides at `path`, none if there is no file. Raises ValueError for a bad one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Overrides)
    except FileNotFoundError:
        return Overrides()
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error


def change(
    path: Path, model: str, to: Callable[[Override | None], Override | None]
) -> Override | None:
    """Make what is said of one model `to` what it was; returns what is said now.

    Two operators at once do so one after the other, and neither's word is lost. Raises OSError,
    ValueError for a bad file, and what `to` raises; the file stays as it was then.
    """
    # The lock is a file of its own: `path` is replaced, and a lock goes with the file it is on.
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        models = dict(load(path).models)
        said = to(models.pop(model, None))
        if said is not None:
            models[model] = said
        status.write(path, Overrides(models=models))
    finally:
        os.close(lock)
    return said
