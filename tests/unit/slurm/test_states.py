"""Job states: every word that Slurm has, and words that it has not yet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.slurm import states
from headrace.slurm.states import Cause, JobState, SlurmPhase

SHORT = {
    "BF": "BOOT_FAIL",
    "CA": "CANCELLED",
    "CD": "COMPLETED",
    "CF": "CONFIGURING",
    "CG": "COMPLETING",
    "DL": "DEADLINE",
    "F": "FAILED",
    "NF": "NODE_FAIL",
    "OOM": "OUT_OF_MEMORY",
    "PD": "PENDING",
    "PR": "PREEMPTED",
    "R": "RUNNING",
    "RD": "RESV_DEL_HOLD",
    "RF": "REQUEUE_FED",
    "RH": "REQUEUE_HOLD",
    "RQ": "REQUEUED",
    "RS": "RESIZING",
    "RV": "REVOKED",
    "S": "SUSPENDED",
    "SE": "SPECIAL_EXIT",
    "SI": "SIGNALING",
    "SO": "STAGE_OUT",
    "ST": "STOPPED",
    "TO": "TIMEOUT",
}


@pytest.mark.parametrize(("short", "long"), SHORT.items())
def test_long_and_compact_names_are_the_same(short: str, long: str) -> None:
    assert states.parse(short).main is states.parse(long).main is JobState(long)


@pytest.mark.parametrize(
    ("word", "phase", "cause"),
    [
        ("PENDING", SlurmPhase.WAITING, Cause.NONE),
        ("CONFIGURING", SlurmPhase.WAITING, Cause.NONE),
        ("REQUEUED", SlurmPhase.WAITING, Cause.NONE),
        ("SPECIAL_EXIT", SlurmPhase.WAITING, Cause.NONE),
        ("RUNNING", SlurmPhase.RUNNING, Cause.NONE),
        ("SUSPENDED", SlurmPhase.RUNNING, Cause.NONE),
        ("COMPLETING", SlurmPhase.ENDING, Cause.NONE),
        ("STAGE_OUT", SlurmPhase.ENDING, Cause.NONE),
        ("COMPLETED", SlurmPhase.OVER, Cause.DONE),
        ("FAILED", SlurmPhase.OVER, Cause.FAILED),
        ("OUT_OF_MEMORY", SlurmPhase.OVER, Cause.FAILED),
        ("NODE_FAIL", SlurmPhase.OVER, Cause.NODE),
        ("BOOT_FAIL", SlurmPhase.OVER, Cause.NODE),
        ("TIMEOUT", SlurmPhase.OVER, Cause.EXPIRED),
        ("DEADLINE", SlurmPhase.OVER, Cause.EXPIRED),
        ("PREEMPTED", SlurmPhase.OVER, Cause.PREEMPTED),
        ("CANCELLED", SlurmPhase.OVER, Cause.CANCELLED),
        ("REVOKED", SlurmPhase.OVER, Cause.CANCELLED),
        ("HIBERNATING", SlurmPhase.UNKNOWN, Cause.NONE),
        ("", SlurmPhase.UNKNOWN, Cause.NONE),
    ],
)
def test_what_a_state_means(word: str, phase: SlurmPhase, cause: Cause) -> None:
    state = states.parse(word)
    assert state.phase is phase
    assert state.cause() is cause


def test_every_state_has_a_meaning() -> None:
    for word in JobState:
        state = states.parse(word)
        assert state.main is word
        if state.phase is SlurmPhase.OVER:
            assert state.cause() is not Cause.NONE, word


@pytest.mark.parametrize(
    ("words", "main"),
    [
        (["RUNNING"], JobState.RUNNING),
        (["RUNNING", "COMPLETING"], JobState.COMPLETING),
        (["COMPLETING", "CANCELLED"], JobState.COMPLETING),
        (["PENDING", "REQUEUED"], JobState.REQUEUED),
        (["PENDING", "REQUEUED", "SPECIAL_EXIT"], JobState.SPECIAL_EXIT),
        (["RUNNING", "CONFIGURING"], JobState.CONFIGURING),
        (["RUNNING", "NEVER_HEARD_OF"], JobState.RUNNING),
        (["NEVER_HEARD_OF"], JobState.UNKNOWN),
        ([], JobState.UNKNOWN),
    ],
)
def test_a_list_of_words_is_one_state(words: list[str], main: JobState) -> None:
    state = states.of(words)
    assert state.main is main
    assert state.words == tuple(words)


def test_sacct_says_who_cancelled_and_cuts_words_short() -> None:
    assert states.parse("CANCELLED by 1000") == states.State(
        JobState.CANCELLED, ("CANCELLED by 1000",), 1000
    )
    assert states.parse("CANCEL+").main is JobState.CANCELLED
    assert states.parse("OUT_OF_ME+").main is JobState.OUT_OF_MEMORY
    assert states.parse("COMPLE+").main is JobState.UNKNOWN


def test_the_reason_tells_whose_fault_a_failure_is() -> None:
    failed = states.parse("FAILED")
    assert failed.cause("NonZeroExitCode") is Cause.FAILED
    assert failed.cause("JobLaunchFailure") is Cause.NODE
    assert failed.cause("BadConstraints") is Cause.REFUSED


def test_held_and_halted() -> None:
    assert states.parse("REQUEUE_HOLD").held
    assert states.parse("SUSPENDED").halted
    assert not states.parse("RUNNING").held


@given(st.lists(st.text(max_size=40), max_size=5))
def test_any_words_at_all(words: list[str]) -> None:
    state = states.of(words)
    assert state.phase in SlurmPhase
    assert state.cause("anything") in Cause
