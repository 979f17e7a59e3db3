"""The command line of the scaler, which this version does not have yet."""

import argparse
import sys
from typing import Final

EXIT_CONFIG: Final = 78
"""``EX_CONFIG`` of sysexits.h: the service manager should not try again."""

DESCRIPTION: Final = """\
The scaler keeps each model's Slurm jobs at the number that the backlog asks for.
This version has none: workers are started by hand (see headrace-worker --help).
"""


def main(argv: list[str] | None = None) -> int:
    """The console script ``headrace-scaler``."""
    argparse.ArgumentParser(
        prog="headrace-scaler",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(argv)
    sys.stderr.write(
        "headrace-scaler: this version has no scaler; start workers by hand with headrace-worker\n"
    )
    return EXIT_CONFIG
