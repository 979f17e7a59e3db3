"""The worker's options: what is refused and in which words, and what is the default."""

from pathlib import Path

import pytest

from headrace.runtime.config import ConfigError
from headrace.runtime.engine import EngineKind, ResumeMode
from headrace.worker import main, options, walltime

MINIMAL = """
cluster = "c1"
model = "m1"
[engine]
kind = "llamacpp"
model = "/m.gguf"
"""


def load(tmp_path: Path, text: str, **environ: str) -> options.WorkerOptions:
    file = tmp_path / "worker.toml"
    file.write_text(text)
    return options.load(file, environ)


def test_little_is_enough(tmp_path: Path) -> None:
    chosen = load(tmp_path, MINIMAL)
    assert chosen.engine.kind is EngineKind.LLAMACPP
    assert chosen.model_name == "m1"
    assert chosen.slots == 8
    assert chosen.lanes.weights == {"high": 32, "normal": 4, "low": 1}
    assert chosen.ends_at == 0
    assert walltime.drain_at(chosen) is None


def test_how_an_engine_continues_depends_on_its_kind(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL).engine.way is ResumeMode.TEXT
    assert load(tmp_path, MINIMAL + 'continues = "no"\n').engine.way is ResumeMode.NO
    vllm = MINIMAL.replace("llamacpp", "vllm")
    assert load(tmp_path, vllm).engine.way is ResumeMode.TOKENS
    command = MINIMAL.replace("llamacpp", "command") + 'command = ["x", "{socket}"]\n'
    assert load(tmp_path, command).engine.way is ResumeMode.NO
    assert load(tmp_path, command + 'continues = "tokens"\n').engine.way is ResumeMode.TOKENS


def test_lanes_come_in_the_order_of_their_weight(tmp_path: Path) -> None:
    chosen = load(tmp_path, MINIMAL + "[lanes]\nlow = 40\n")
    assert list(chosen.lanes.weights) == ["low", "high", "normal"]


def test_slurm_tells_the_end_of_the_walltime(tmp_path: Path) -> None:
    chosen = load(tmp_path, MINIMAL, SLURM_JOB_END_TIME="1800000000")
    assert chosen.ends_at == 1800000000
    at = walltime.drain_at(chosen)
    assert at is not None
    assert chosen.ends_at - chosen.drain_seconds - 60 < at < chosen.ends_at - chosen.drain_seconds
    assert load(tmp_path, "ends_at = 5\n" + MINIMAL, SLURM_JOB_END_TIME="9").ends_at == 5


def test_the_environment_overrides(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL, HEADRACE_WORKER__SLOTS="3").slots == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cluster"),
        (MINIMAL + "unknown = 1\n", "unknown"),
        (MINIMAL + 'continues = "maybe"\n', "continues"),
        (MINIMAL + "[limits]\nreplay_bytes = 2000000\n", "replay_bytes"),
        ("slots = 0\n" + MINIMAL, "slots"),
        ("slot = 8\n" + MINIMAL, "slot"),
        (MINIMAL.replace('"m1"', '"M 1"'), "slug"),
        (MINIMAL.replace('"c1"', '"*"'), "slug"),
        (MINIMAL.replace("llamacpp", "ollama"), "ollama"),
        (MINIMAL.replace('model = "/m.gguf"', ""), "engine.model"),
        (MINIMAL + 'command = ["x", "{socket}"]\n', "engine.command"),
        (MINIMAL.replace("llamacpp", "command"), "{socket}"),
        (MINIMAL.replace("llamacpp", "command") + 'command = ["x"]\n', "{socket}"),
        (MINIMAL + "[lanes]\nurgent = 1\n", "urgent"),
        (MINIMAL + "[lanes]\nlow = 0\n", "low"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert says in str(caught.value)
    assert "worker.toml" in str(caught.value)


def test_a_bad_walltime_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path, MINIMAL, SLURM_JOB_END_TIME="soon")


def test_the_example_in_the_help_is_valid(tmp_path: Path) -> None:
    example = main.EXAMPLE.partition("worker.toml:\n")[2].partition("\nThe environment")[0]
    chosen = load(tmp_path, example)
    assert chosen.model_name == "Qwen/Qwen3-8B"
    assert chosen.engine.args == ("--max-model-len", "16384")
