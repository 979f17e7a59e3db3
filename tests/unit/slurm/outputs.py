"""What a real Slurm 22.05 has answered, and what newer ones would."""

import json
from pathlib import Path

from headrace.slurm.output import CommandOutput

HERE = Path(__file__).parent
NEWER = ("23.02", "23.11", "24.05", "24.11")


def recorded(name: str, version: str = "22.05") -> CommandOutput:
    told = json.loads((HERE / f"recorded/{version}/{name}.json").read_text())
    return CommandOutput(told["exit_code"], told["stdout"], told["stderr"])


def newer(version: str) -> CommandOutput:
    return CommandOutput(0, (HERE / f"newer/squeue-{version}.json").read_text())
