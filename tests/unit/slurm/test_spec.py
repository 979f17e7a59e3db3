"""A job's specification: what sbatch or a shell could misread is refused before they see it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.slurm import script
from headrace.slurm.record import Record
from headrace.slurm.spec import OWN_OPTIONS, Apptainer, JobSpec

JOB = Record("site-a", "c1", "qwen3-8b", "9644350fe50f", "00112233aabbccdd")
HOSTILE = [
    "a b",
    "a\n#SBATCH --uid=root",
    "a;id",
    "$(id)",
    "`id`",
    "a'b",
    'a"b',
    "a\\b",
    "-x",
    "--wrap=id",
    "é",
    "a\0",
    "a\r",
    "a#b",
    "x" * 1000,
]
CHECKED = ["account", "qos", "reservation", "constraint", "gres", "gpus", "mem", "output", "chdir"]


@pytest.mark.parametrize("field", [*CHECKED, "venv", "time", "time_min"])
@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values(field: str, value: str) -> None:
    fields: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=field):
        JobSpec(**fields)


@pytest.mark.parametrize("field", ["partitions", "exclude", "modules", "extra"])
@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_lists(field: str, value: str) -> None:
    fields: dict[str, Any] = {field: ("good", value)} if field != "extra" else {field: (value,)}
    with pytest.raises(ValueError, match=r"misread|name|extra"):
        JobSpec(**fields)


@pytest.mark.parametrize("line", ["a\nb", "a\rb", "a\0b"])
def test_a_prologue_is_one_line_per_entry(line: str) -> None:
    with pytest.raises(ValueError, match="prologue"):
        JobSpec(prologue=(line,))


def test_a_full_specification() -> None:
    spec = JobSpec(
        time="1-12:00:00",
        time_min="02:00:00",
        account="ml-project",
        partitions=("gpu", "gpu_low"),
        qos="scavenger",
        constraint="[rack1|rack2]&a100",
        reservation="friday",
        gres="gpu:a100:2,nvme:1",
        nodes=2,
        mem="64G",
        exclude=("gpu7",),
        nice=100,
        output="/scratch/%u/headrace-%x-%4j.log",
        extra=("--licenses=scratch@db:2", "--exclusive", "--switches=1@10:00"),
        apptainer=Apptainer(image="/images/vllm.sif", binds=("/models:/models:ro", "/scratch")),
    )
    assert spec.time_seconds == 129_600
    assert spec.time_min_seconds == 7200


@pytest.mark.parametrize("name", sorted(OWN_OPTIONS))
def test_extra_lines_may_not_take_over_what_is_ours(name: str) -> None:
    with pytest.raises(ValueError, match="not for extra"):
        JobSpec(extra=(f"--{name}=1",))


@pytest.mark.parametrize("name", ["--job", "--comm", "--part", "--wr", "--exp", "--array"])
def test_nor_by_an_abbreviation(name: str) -> None:
    with pytest.raises(ValueError, match="not for extra"):
        JobSpec(extra=(f"{name}=1",))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"time": "0"}, "time"),
        ({"time": "400-00"}, "time"),
        ({"time": "1:00:00", "time_min": "2:00:00"}, "time_min"),
        ({"time": "1:00:00", "signal_seconds": 3600}, "signal_seconds"),
    ],
)
def test_times_must_make_sense(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        JobSpec(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"image": "relative.sif"},
        {"image": "/a b.sif"},
        {"image": "/a.sif", "binds": ("models",)},
        {"image": "/a.sif", "binds": ("/models:/models:rx",)},
        {"image": "/a.sif", "binds": ("/models:",)},
        {"image": "/a.sif", "binds": ("/models:/a:/b",)},
        {"image": "/a.sif", "program": "sh -c"},
    ],
)
def test_containers(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="apptainer"):
        Apptainer(**fields)


def test_a_file_is_refused_with_the_reason() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"account: .* misread"):
        msgspec.convert({"account": "a b"}, JobSpec)
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"acount": "a"}, JobSpec)


def test_the_hash_changes_with_what_is_asked_for_and_not_with_what_nodes_did() -> None:
    spec = JobSpec(time="2:00:00")
    assert spec.hash == JobSpec(time="2:00:00", exclude=("gpu1",)).hash
    assert spec.hash != JobSpec(time="3:00:00").hash
    assert len(spec.hash) == 12


@given(st.text(max_size=60), st.sampled_from(CHECKED))
def test_any_value_is_refused_or_stays_one_value_on_one_line(value: str, field: str) -> None:
    fields: dict[str, Any] = {field: value}
    try:
        spec = JobSpec(**fields)
    except ValueError:
        return
    lines = script.options(spec, JOB)
    assert all(line.isprintable() and " " not in line for line in lines)
    assert value == "" or any(line.endswith(f"={value}") for line in lines)
