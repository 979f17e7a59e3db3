"""How long to wait before the next attempt. Plain values in, seconds out."""

from typing import Final

FIRST_SECONDS: Final = 0.1

FAULT_CAP_SECONDS: Final = 2.0
"""A fault heals by itself, and the service must be back within 10 s of it."""

REFUSAL_CAP_SECONDS: Final = 10.0
"""A refusal waits for a person. OpenSSH 9.8 and later lock out an address whose failures add up,
5 s for each, faster than they expire: this is slow enough for it."""

STEADY_SECONDS: Final = 10.0
"""A connection that lasted so long was a success, and the next attempt is a first one again."""


def wait(failures: int, *, refused: bool, chance: float) -> float:
    """Seconds to wait after `failures` in a row, of which the last was refused or not.

    `chance`, from 0 to 1, spreads many bridges that lost the same host: it takes off up to half.
    """
    cap = REFUSAL_CAP_SECONDS if refused else FAULT_CAP_SECONDS
    # The exponent is bounded, for failures may go on for days.
    return min(cap, FIRST_SECONDS * 2.0 ** min(failures, 16)) * (1 - chance / 2)
