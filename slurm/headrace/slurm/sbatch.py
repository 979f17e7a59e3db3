"""What sbatch says: the job's id, or whether trying again can help."""

import re
from enum import StrEnum
from typing import Final

import msgspec

from headrace.slurm.output import CommandOutput


class SubmitOutcome(StrEnum):
    """What has become of a submission."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """What it asks for is wrong here: the same again is refused again."""
    BUSY = "busy"
    """Not accepted, for now: the controller is away, or a limit is reached."""
    UNSURE = "unsure"
    """The answer was lost. Its record in squeue tells, for it carries the submission id."""


class Submission(msgspec.Struct, frozen=True):
    """The answer to one submission."""

    outcome: SubmitOutcome
    job: int = 0
    """The job's id if it was accepted."""
    reason: str = ""
    """Otherwise why, in Slurm's words."""


_ID: Final = re.compile(r"([0-9]{1,10})(?:;[A-Za-z0-9_.-]{1,64})?", re.ASCII)
_SUBMITTED: Final = re.compile(r"Submitted batch job ([0-9]{1,10})", re.ASCII)

_BUSY: Final = (
    "unable to contact slurm controller",
    "temporarily",
    "try again",
    "qosmax",
    "assocmax",
    "assocgrp",
    "qosgrp",
    "job violates accounting/qos policy",
    "job submit limit",
    "maximum number of jobs",
    "too many",
    "slurm backup controller in standby mode",
    "resource temporarily unavailable",
    "munge",
    "protocol authentication error",
)
"""Words of refusals that pass by themselves, from slurm_errno.c of 20.11 to 24.11."""

_UNSURE: Final = (
    "socket timed out",
    "zero bytes were transmitted or received",
    "unexpected message received",
    "connection reset",
    "communication connection failure",
    "transport endpoint is not connected",
)
"""Words of a conversation that broke off after the request may have been read."""


def parse(output: CommandOutput) -> Submission:
    """The answer of `Commands.sbatch`, which is run with ``--parsable``."""
    for line in output.stdout.splitlines():
        # A site's wrapper may write lines of its own around the id.
        match = _ID.fullmatch(line.strip()) or _SUBMITTED.search(line)
        if match is not None and output.exit_code == 0 and int(match[1]) > 0:
            return Submission(SubmitOutcome.ACCEPTED, int(match[1]))
    if output.failure.startswith(NOT_STARTED):
        return Submission(SubmitOutcome.BUSY, reason=output.failure)
    reason = output.problem or "sbatch ended well but told no job id"
    words = output.stderr.lower()
    if output.exit_code in {0, None} or any(each in words for each in _UNSURE):
        return Submission(SubmitOutcome.UNSURE, reason=reason)
    if any(each in words for each in _BUSY):
        return Submission(SubmitOutcome.BUSY, reason=reason)
    return Submission(SubmitOutcome.REFUSED, reason=reason)


NOT_STARTED: Final = "cannot start"
"""How `CommandOutput.failure` begins where the program never ran."""
