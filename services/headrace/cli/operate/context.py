"""Where a scaler keeps its state, from `--state` or its ``scaler.toml``: for all commands alike."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from headrace.catalogue import overrides, status
from headrace.catalogue.overrides import Override, Overrides
from headrace.catalogue.status import Status
from headrace.runtime import config
from headrace.runtime.nats.bus import BusOptions

SCALER_FILE: Final = "scaler.toml"


class ScalerFile(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator's command needs of ``scaler.toml``; the scaler itself checks the rest."""

    cluster: str
    installation: str = "headrace"
    models: str = "models.d"
    state: str = "state"
    bus: BusOptions = BusOptions()
    worker_bus: BusOptions = BusOptions()
    worker_command: tuple[str, ...] = ("headrace-worker",)


def load(path: Path) -> ScalerFile:
    """The file with its paths resolved. Raises ConfigError."""
    read = config.load(path, ScalerFile, os.environ, "scaler")
    folder = path.resolve().parent

    def placed(bus: BusOptions) -> BusOptions:
        name = str(config.resolve(folder, bus.nkey_file)) if bus.nkey_file else ""
        return msgspec.structs.replace(bus, nkey_file=name)

    return msgspec.structs.replace(
        read,
        models=str(config.resolve(folder, read.models)),
        state=str(config.resolve(folder, read.state)),
        bus=placed(read.bus),
        worker_bus=placed(read.worker_bus),
    )


class StateFolder(msgspec.Struct, frozen=True):
    """A scaler's state folder."""

    state: Path
    installation: str = ""
    """Empty where only the folder was given."""

    @property
    def status_file(self) -> Path:
        """What the scaler writes after each round."""
        return self.state / "status.json"

    @property
    def overrides_file(self) -> Path:
        """What the scaler reads before each."""
        return self.state / "overrides.json"

    def status(self) -> Status:
        """The last round's picture. Raises ClickException."""
        try:
            return status.read(self.status_file)
        except FileNotFoundError as error:
            raise click.ClickException(
                f"{self.status_file} is not there: no scaler has run with this folder. "
                "Is it the right one? Start: headrace-scaler --config scaler.toml"
            ) from error
        except OSError as error:
            raise click.ClickException(
                f"{self.status_file}: {error.strerror}. Run this as the scaler's account."
            ) from error
        except msgspec.DecodeError as error:
            raise click.ClickException(
                f"{self.status_file}: not a scaler's status of this version: {error}"
            ) from error

    def overrides(self) -> Overrides:
        """What was said by hand so far. Raises ClickException."""
        try:
            return overrides.load(self.overrides_file)
        except ValueError as error:
            raise click.ClickException(f"{error}. Remove that file to begin anew.") from error

    def override(
        self, model: str, to: Callable[[Override | None], Override | None]
    ) -> Override | None:
        """Change what is said of one model (see `overrides.change`). Raises ClickException."""
        try:
            return overrides.change(self.overrides_file, model, to)
        except ValueError as error:
            raise click.ClickException(f"{error}. Remove that file to begin anew.") from error
        except OSError as error:
            raise click.ClickException(
                f"{self.overrides_file}: {error.strerror}. Run this as the scaler's account."
            ) from error


def find(state: Path | None, config_file: Path | None) -> StateFolder:
    """The place that the options name, or else the ``scaler.toml`` here. Raises ClickException."""
    if state is not None:
        return StateFolder(state.resolve())
    path = config_file or Path(SCALER_FILE)
    if config_file is None and not path.is_file():
        raise click.UsageError(
            f"which scaler? There is no {SCALER_FILE} here; say --config FILE or --state DIR."
        )
    try:
        found = load(path)
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from error
    return StateFolder(Path(found.state), found.installation)


Command = Callable[..., Any]


def options(command: Command) -> Command:
    """Add `--config`, `--state` and `--json`."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="JSON instead of text."),
        click.option(
            "--state",
            type=click.Path(file_okay=False, path_type=Path),
            help="Or the folder that its `state` names.",
        ),
        click.option(
            "--config",
            "config_file",
            type=click.Path(dir_okay=False, path_type=Path),
            envvar="HEADRACE_SCALER_CONFIG",
            help=f"The scaler's {SCALER_FILE}. [default: the one here]",
        ),
    ):
        command = option(command)
    return command
