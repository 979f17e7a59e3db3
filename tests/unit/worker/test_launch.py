"""Command lines and environments of engines, as plain values."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from headrace.runtime.engine import EngineKind, EngineOptions
from headrace.worker.engine.launch import Launch, fill, launch
from headrace.worker.engine.llamacpp_server import parser

RUN = Path("/run/x")
SOCKET = RUN / "engine.sock"


def made(options: EngineOptions, environ: dict[str, str] | None = None) -> Launch:
    return launch(options, name="Org/M", slots=3, socket=SOCKET, run_dir=RUN, environ=environ or {})


def test_vllm() -> None:
    options = EngineOptions(
        EngineKind.VLLM,
        model="/models/m",
        args=("--dtype", "bfloat16"),
        python="/opt/vllm/bin/python",
    )
    argv = made(options).argv
    assert argv[:2] == ["/opt/vllm/bin/python", "-c"]
    assert '"vllm.entrypoints.openai.api_server"' in argv[2]
    pairs = dict(pairwise(argv))
    assert pairs["--uds"] == str(SOCKET)
    assert pairs["--model"] == "/models/m"
    assert pairs["--served-model-name"] == "Org/M"
    assert pairs["--max-num-seqs"] == "3"
    assert argv[-2:] == ["--dtype", "bfloat16"]
    assert not any("log-requests" in part for part in argv), "prompts would be logged"


# Does what vLLM does: a process by multiprocessing, which wants the resource tracker.
SERVER = """
import multiprocessing, signal, sys
def blocked():
    print(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
if __name__ == "__main__":
    print(sys.argv[1:], flush=True)
    blocked()
    child = multiprocessing.get_context("spawn").Process(target=blocked)
    child.start()
    child.join()
    blocked()
"""


def test_vllm_and_its_children_do_not_hear_sigterm(tmp_path: Path) -> None:
    package = tmp_path / "vllm/entrypoints/openai"
    package.mkdir(parents=True)
    (package / "api_server.py").write_text(SERVER)
    launched = made(EngineOptions(EngineKind.VLLM, model="m")).argv
    done = subprocess.run(
        launched, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=20
    )
    told, *blocked = done.stdout.splitlines()
    assert told == str(launched[3:])
    assert blocked == ["True"] * 3


def test_llamacpp_understands_its_command_line() -> None:
    argv = made(
        EngineOptions(EngineKind.LLAMACPP, model="/m.gguf", args=("--set", "n_ubatch=64"))
    ).argv
    assert argv[:4] == [sys.executable, "-P", "-m", "headrace.worker.engine.llamacpp_server"]
    parsed = parser().parse_args(argv[4:])
    assert (parsed.uds, parsed.model, parsed.slots) == (str(SOCKET), "/m.gguf", 3)
    assert parsed.served_model_name == "Org/M"
    assert parsed.set == ["n_ubatch=64"]


def test_a_command_gets_its_placeholders_filled_in() -> None:
    options = EngineOptions(
        EngineKind.COMMAND, model="a b; rm -rf $HOME",
        command=("serve", "--socket={socket}", "{model}", "{name}", "{other}"), args=("{name}!",),
    )  # fmt: skip
    assert made(options).argv == [
        "serve", f"--socket={SOCKET}", "a b; rm -rf $HOME", "Org/M", "{other}", "Org/M!",
    ]  # fmt: skip


def test_what_is_filled_in_is_not_read_again() -> None:
    values = {"{socket}": "{model}", "{model}": "{socket}"}
    assert fill("{socket}{model}-{socket}", values) == "{model}{socket}-{model}"


@given(st.text(), st.text())
def test_any_value_stays_one_element(model: str, other: str) -> None:
    options = EngineOptions(EngineKind.COMMAND, model=model, command=("x", "{model}", "{socket}"))
    assert made(options).argv == ["x", model, str(SOCKET)]
    assert fill(other, {}) == other


def test_the_engine_does_not_get_our_secrets() -> None:
    environ = {
        "PATH": "/bin",
        "HEADRACE_WORKER__BUS__NKEY_FILE": "/secret",
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "SLURM_JOB_ID": "7",
    }
    env = made(EngineOptions(EngineKind.VLLM, model="m", env={"A": "b"}), environ).env
    assert not any(name.startswith("HEADRACE_") for name in env)
    assert "NOTIFY_SOCKET" not in env
    assert (env["PATH"], env["SLURM_JOB_ID"], env["A"]) == ("/bin", "7", "b")


def test_an_engine_writes_below_its_run_directory_and_reports_to_nobody() -> None:
    env = made(EngineOptions(EngineKind.VLLM, model="m"), {"TMPDIR": "/tmp"}).env
    for name in ("TMPDIR", "VLLM_RPC_BASE_PATH", "VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR"):
        assert Path(env[name]).is_relative_to(RUN)
    assert env["HF_HUB_OFFLINE"] == env["VLLM_NO_USAGE_STATS"] == env["DO_NOT_TRACK"] == "1"


def test_a_cache_can_outlive_the_engine() -> None:
    env = made(EngineOptions(EngineKind.VLLM, model="m", cache_dir="/scratch/cache")).env
    assert env["VLLM_CACHE_ROOT"] == "/scratch/cache/vllm"
    assert env["TMPDIR"] == str(RUN)


def test_the_options_have_the_last_word() -> None:
    env = made(EngineOptions(EngineKind.VLLM, model="m", env={"HF_HUB_OFFLINE": "0"})).env
    assert env["HF_HUB_OFFLINE"] == "0"
