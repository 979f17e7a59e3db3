"""The commands: what they say, and what of the caller's surroundings reaches them."""

from collections.abc import Callable

import pytest

from headrace.slurm.commands import MAX_IDS, Command, Commands

ENVIRON = {
    "PATH": "/opt/slurm/bin:/usr/bin",
    "HOME": "/home/headrace",
    "SLURM_CONF": "/etc/slurm-b/slurm.conf",
    "SLURM_NNODES": "7",
    "SLURM_TIME_FORMAT": "relative",
    "SBATCH_PARTITION": "other",
    "SQUEUE_STATES": "PD",
    "SQUEUE_FORMAT2": "JobID",
    "SINFO_FORMAT": "%N",
    "SCANCEL_ACCOUNT": "x",
    "TZ": "Pacific/Kiritimati",
    "LC_ALL": "de_DE.UTF-8",
    "HEADRACE_SCALER__BUS__PASSWORD": "secret",
    "LD_PRELOAD": "/tmp/x.so",
}
COMMANDS = Commands(ENVIRON, "headrace")
ALL: list[Callable[[Commands], Command]] = [
    lambda c: c.squeue(),
    lambda c: c.squeue_start(),
    lambda c: c.squeue_json(),
    lambda c: c.scancel([1]),
    lambda c: c.scancel_pending([1]),
    lambda c: c.signal([1]),
    lambda c: c.sinfo_nodes(),
    lambda c: c.sinfo_partitions(),
    lambda c: c.ping(),
    lambda c: c.show_job(1),
    lambda c: c.requeue(1),
    lambda c: c.hold(1),
    lambda c: c.release(1),
    lambda c: c.update(1, TimeLimit="60"),
]


@pytest.mark.parametrize("make", ALL)
def test_the_callers_environment_changes_nothing(make: Callable[[Commands], Command]) -> None:
    assert make(COMMANDS).env == {
        "PATH": ENVIRON["PATH"],
        "HOME": ENVIRON["HOME"],
        "SLURM_CONF": ENVIRON["SLURM_CONF"],
        "SLURM_TIME_FORMAT": "%s",
        "LC_ALL": "C",
        "TZ": "UTC0",
    }


def test_the_jobs_environment_is_what_an_account_has_and_no_more() -> None:
    command = COMMANDS.sbatch("#!/bin/sh\n")
    assert command.argv == ("sbatch", "--parsable")
    assert command.stdin == "#!/bin/sh\n"
    assert command.env == {name: ENVIRON[name] for name in ("PATH", "HOME", "SLURM_CONF")}
    assert Commands(ENVIRON, "headrace", {"SITE": "x"}).sbatch("").env["SITE"] == "x"


def test_jobs_are_asked_for_all_at_once_and_by_account() -> None:
    argv = COMMANDS.squeue().argv
    assert argv[:3] == ("squeue", "--all", "--user=headrace")
    assert argv[-1] == "--states=all"


def test_ending_jobs() -> None:
    assert COMMANDS.scancel([1, 22]).argv == ("scancel", "1", "22")
    assert COMMANDS.scancel_pending([1]).argv == ("scancel", "--state=PENDING", "1")
    drain = ("scancel", "--state=RUNNING", "--signal=TERM", "1")
    assert COMMANDS.signal([1]).argv == drain
    assert "--batch" in COMMANDS.signal([1], "USR1", batch=True).argv


@pytest.mark.parametrize("ids", [[], [0], [-1], list(range(1, MAX_IDS + 2))])
def test_never_a_scancel_without_jobs_or_with_too_many(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="ids"):
        COMMANDS.scancel(ids)


@pytest.mark.parametrize(
    ("name", "value"),
    [("TimeLimit", "60 UserId=0"), ("UserId", "0"), ("Nice", "x"), ("TimeLimit", ""), ("a b", "1")],
)
def test_only_some_changes(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="change"):
        COMMANDS.update(1, **{name: value})


def test_only_names_of_accounts_signals_and_nodes() -> None:
    with pytest.raises(ValueError, match="account"):
        Commands({}, "a b")
    with pytest.raises(ValueError, match="account"):
        Commands({}, "--all")
    with pytest.raises(ValueError, match="signal"):
        COMMANDS.signal([1], "9 1")
    with pytest.raises(ValueError, match="name"):
        COMMANDS.exclude(1, ["a b"])
    assert COMMANDS.exclude(1, ["gpu1", "gpu2"]).argv[-1] == "ExcNodeList=gpu1,gpu2"
