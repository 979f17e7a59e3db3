"""What a command has left behind, and whether its answer can be relied on.

"No jobs" and "no idea" look alike to whoever only counts rows, and taking one for the other starts
every job a second time. So each answer carries a `problem`: empty means that it can be relied on.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from headrace.slurm.commands import END, FIELD, RECORD

_SHOWN: Final = 300


class CommandOutput(msgspec.Struct, frozen=True):
    """The end of a command that was run."""

    exit_code: int | None
    """None where it did not end by itself, or never began."""
    stdout: str = ""
    stderr: str = ""
    failure: str = ""
    """Why there is no exit code: timed out, not found, too much output."""

    @property
    def problem(self) -> str:
        """Why the command has failed, in a sentence; empty where it has not."""
        if self.failure:
            return self.failure
        if self.exit_code == 0:
            return ""
        return self.complaint or _short(self.stderr) or f"exit code {self.exit_code}"

    @property
    def complaint(self) -> str:
        """The last error on stderr, whatever the exit code: squeue ends with 0 and no row even
        where it has refused the user's name. With rows beside it, it is only noise."""
        errors = [line for line in self.stderr.splitlines() if "error" in line.lower()]
        return _short(errors[-1]) if errors else ""


class Rows(msgspec.Struct, frozen=True):
    """The rows of an answer in our own format."""

    rows: tuple[dict[str, str], ...] = ()
    malformed: int = 0
    problem: str = ""


def table(output: CommandOutput, fields: Mapping[str, str]) -> Rows:
    """The rows that `commands.row(fields)` made. The header line is the proof that squeue or sinfo
    has really answered; an answer that ends within a row has been cut short."""
    if output.problem:
        return Rows(problem=output.problem)
    text = output.stdout
    if not text.strip():
        return Rows(problem="the answer is empty: not even the header is there")
    # squeue --start and a site's wrapper may write lines of their own before the header.
    head, *records = text.split(RECORD)
    if not records or FIELD not in records[0]:
        return Rows(problem=f"not an answer in our format: {_short(head)!r}")
    if END not in records[-1]:
        return Rows(problem="the answer was cut short")
    names = tuple(fields)
    rows = []
    malformed = 0
    for each in records[1:]:
        body, end, _ = each.partition(END)
        values = body.split(FIELD)
        if not end or len(values) < len(names):
            malformed += 1
            continue
        # The last field is the free one; what looks like more fields is part of it.
        values[len(names) - 1 :] = [FIELD.join(values[len(names) - 1 :])]
        rows.append(dict(zip(names, values, strict=True)))
    return Rows(tuple(rows), malformed, "" if rows else output.complaint)


def _short(text: str) -> str:
    return " ".join(text.split())[:_SHOWN]
