"""Does the time of a refusal tell how much of a key was right? ``python -m loadtests.auth_timing``.

In turns, in one run, the door is tried with keys of two kinds, both well formed and of nobody: one
shares its first characters with a key that lives, the other is random. Each turn's order is drawn,
so that whatever the machine does hits both alike. What counts is the ratio of their medians, held
against the same ratio of two kinds that are both random: the noise.
"""

import argparse
import platform
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Final

import msgspec

from headrace.gateway.policy import api_keys
from loadtests.auth_fuzz import Door

RESULT: Final = Path(__file__).parent / "results" / "auth-timing.json"
PREFIXES: Final = (10, 25, 40)
BLOCK: Final = 200
"""Tries that are timed together."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Medians in nanoseconds per refusal."""

    right_characters: int
    prefixed_ns: float
    random_ns: float
    ratio: float
    noise: float
    """The same ratio of two kinds that are both random."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run."""

    turns: int
    rows: list[Row]
    python: str


def near(key: str, right: int) -> str:
    """A well-formed key of nobody that begins like `key`."""
    other = api_keys.mint()
    body = key[:right] + other[right:46]
    return body + api_keys._checksum(body)  # noqa: SLF001  # an attacker can compute it, too


def measure(right: int, turns: int) -> Row:
    """Time blocks of both kinds in turns."""
    dice = random.Random(right)
    live = [api_keys.mint() for _ in range(1000)]
    door = Door(live, ())
    times: dict[str, list[float]] = {"near": [], "random": [], "other": []}
    for _ in range(turns):
        blocks = {
            "near": [_headers(near(dice.choice(live), right)) for _ in range(BLOCK)],
            "random": [_headers(api_keys.mint()) for _ in range(BLOCK)],
            "other": [_headers(api_keys.mint()) for _ in range(BLOCK)],
        }
        for kind in dice.sample(sorted(blocks), 3):
            began = perf_counter_ns()
            for headers in blocks[kind]:
                assert not door.opens(headers)
            times[kind].append((perf_counter_ns() - began) / BLOCK)
    medians = {kind: statistics.median(each) for kind, each in times.items()}
    return Row(
        right_characters=right,
        prefixed_ns=round(medians["near"], 1),
        random_ns=round(medians["random"], 1),
        ratio=round(medians["near"] / medians["random"], 4),
        noise=round(medians["other"] / medians["random"], 4),
    )


def _headers(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + key.encode())]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(prog="auth_timing", description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=600)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(argv)
    rows = [measure(right, given.turns) for right in PREFIXES]
    result = Result(turns=given.turns, rows=rows, python=platform.python_version())
    given.out.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    for row in rows:
        print(
            f"{row.right_characters} right characters: {row.prefixed_ns:.0f} ns, "
            f"random {row.random_ns:.0f} ns, ratio {row.ratio:.3f} (noise {row.noise:.3f})"
        )


if __name__ == "__main__":
    main()
