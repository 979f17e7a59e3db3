"""``headrace-scaler``: keeps each model's Slurm jobs at the number that the backlog asks for."""

import argparse
import os
import sys
from pathlib import Path

import msgspec

from headrace.runtime import config, lifecycle, logging
from headrace.runtime.lifecycle import Lifecycle
from headrace.runtime.nats.bus import BusOptions
from headrace.scaler.options import ScalerOptions
from headrace.scaler.service import Scaler
from headrace.slurm.client import SlurmClient

DESCRIPTION = """\
Runs on the cluster's service node, under the account that owns the jobs. Reads the models from a
folder of files (models.d/), the backlog from the queue and the jobs from Slurm, and submits, drains
and cancels jobs through sbatch and scancel. It ends no job on missing or stale knowledge; without
it jobs go on as they are. `headrace init` writes an example of scaler.toml.
"""


def main() -> int:
    """The console script; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="headrace-scaler",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, help="scaler.toml")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning"])
    arguments = parser.parse_args()
    log = logging.setup("scaler", arguments.log_level)
    try:
        options = load(arguments.config)
    except config.ConfigError as error:
        sys.stderr.write(f"headrace-scaler: {error}\n")
        return lifecycle.EXIT_CONFIG

    async def serve(life: Lifecycle) -> int:
        return await Scaler(options, SlurmClient(), life).run()

    return lifecycle.run(serve, log)


def load(path: Path) -> ScalerOptions:
    """The options at `path`, with the paths in them resolved. Raises ConfigError."""
    options = config.load(path, ScalerOptions, os.environ, "scaler")
    folder = path.resolve().parent

    def resolved(bus: BusOptions) -> BusOptions:
        if not bus.nkey_file:
            return bus
        return msgspec.structs.replace(bus, nkey_file=str(config.resolve(folder, bus.nkey_file)))

    return msgspec.structs.replace(
        options,
        bus=resolved(options.bus),
        worker_bus=resolved(options.worker_bus),
        models=str(config.resolve(folder, options.models)),
        state=str(config.resolve(folder, options.state)),
    )


if __name__ == "__main__":
    sys.exit(main())
