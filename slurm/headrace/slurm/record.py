"""How a job says whose it is: by its name, and by the record in its comment.

A scaler that starts anew knows its own jobs again by these, and a submission whose answer was lost
is found by its id. Comments are the account's, so anybody's other jobs carry any text in theirs.
"""

import re
import secrets
from typing import Final

import msgspec

VERSION: Final = 1

NAME_PREFIX: Final = "hr-"

_PART: Final = r"[a-z0-9][a-z0-9-]{0,63}"
_PARTS: Final = re.compile(_PART, re.ASCII)
_NAME: Final = re.compile(rf"{NAME_PREFIX}({_PART})", re.ASCII)
# Found anywhere in the comment: a site's job_submit plugin may put words of its own around it.
_RECORD: Final = re.compile(
    rf"(?<![^\s;,])headrace/{VERSION}/({_PART})/({_PART})/({_PART})/([0-9a-f]{{1,64}})/({_PART})(?![^\s;,])",
    re.ASCII,
)


class Record(msgspec.Struct, frozen=True):
    """What a job of ours carries."""

    installation: str
    """Which Headrace: two may share an account."""
    cluster: str
    model: str
    spec_hash: str
    """Of the specification that it was submitted with (`JobSpec.hash`)."""
    submission: str
    """Unique per submission, chosen before it (`new_submission`)."""

    def __post_init__(self) -> None:
        for part in (self.installation, self.cluster, self.model, self.submission):
            if _PARTS.fullmatch(part) is None:
                raise ValueError(f"not a slug ([a-z0-9-], at most 64 characters): {part[:80]!r}")
        if re.fullmatch(r"[0-9a-f]{1,64}", self.spec_hash) is None:
            raise ValueError(f"not a hash: {self.spec_hash[:80]!r}")


def new_submission() -> str:
    """A fresh submission id: 64 random bits."""
    return secrets.token_hex(8)


def comment(record: Record) -> str:
    """The record as a job's comment."""
    return "/".join(("headrace", str(VERSION), *msgspec.structs.astuple(record)))


def parse(text: str) -> Record | None:
    """The record in a comment, None if there is none of ours."""
    match = _RECORD.search(text)
    return None if match is None else Record(*match.groups())


def job_name(model: str) -> str:
    """The name of the jobs of a model. Raises ValueError."""
    if _PARTS.fullmatch(model) is None:
        raise ValueError(f"not a slug ([a-z0-9-], at most 64 characters): {model[:80]!r}")
    return NAME_PREFIX + model


def model_of(name: str) -> str | None:
    """The model in a job's name, where it is a name of ours."""
    match = _NAME.fullmatch(name)
    return None if match is None else match[1]
