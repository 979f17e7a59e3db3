"""From options to the command line and environment of an engine. Nothing runs here.

Every value of the options is one element of an argv; no shell ever reads it (invariant 7).
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from headrace.runtime.engine import EngineKind, EngineOptions

# As `-m` would start it, but for one thing. Where multiprocessing starts its resource tracker it
# unblocks SIGTERM, which the reaper has blocked for the engine and its children: so that is done
# first, and SIGTERM blocked again.
VLLM: Final = """\
import runpy, signal
from multiprocessing import resource_tracker
resource_tracker.ensure_running()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
"""


class Launch(NamedTuple):
    """What to start."""

    argv: list[str]
    env: dict[str, str]


def launch(
    options: EngineOptions,
    *,
    name: str,
    slots: int,
    socket: Path,
    run_dir: Path,
    environ: Mapping[str, str],
) -> Launch:
    """The command that serves `name` on the Unix socket `socket`."""
    if options.kind is EngineKind.VLLM:
        argv = vllm(options, name=name, slots=slots, socket=socket)
    elif options.kind is EngineKind.LLAMACPP:
        argv = llamacpp(options, name=name, slots=slots, socket=socket)
    else:
        argv = command(options, name=name, socket=socket)
    env = environment(environ, run_dir, options.cache_dir)
    return Launch(argv, env | options.env)


def vllm(options: EngineOptions, *, name: str, slots: int, socket: Path) -> list[str]:
    """vLLM's OpenAI server; requests are not logged unless `args` ask for it, and must not."""
    return [
        options.python or sys.executable, "-c", VLLM,
        "--uds", str(socket),
        "--model", options.model,
        "--served-model-name", name,
        "--max-num-seqs", str(slots),
        "--disable-uvicorn-access-log",
        *options.args,
    ]  # fmt: skip


def llamacpp(options: EngineOptions, *, name: str, slots: int, socket: Path) -> list[str]:
    """llama.cpp through xllamacpp, in a process of its own."""
    return [
        options.python or sys.executable, "-P", "-m", "headrace.worker.engine.llamacpp_server",
        "--uds", str(socket),
        "--model", options.model,
        "--served-model-name", name,
        "--slots", str(slots),
        *options.args,
    ]  # fmt: skip


def command(options: EngineOptions, *, name: str, socket: Path) -> list[str]:
    """The operator's own argv, with the placeholders filled in."""
    values = {"{socket}": str(socket), "{model}": options.model, "{name}": name}
    return [fill(part, values) for part in (*options.command, *options.args)]


def fill(part: str, values: Mapping[str, str]) -> str:
    """`part` with every placeholder replaced, once: what is filled in is not read again."""
    for placeholder, value in values.items():
        if placeholder in part:
            before, _, after = part.partition(placeholder)
            return fill(before, values) + value + fill(after, values)
    return part


def environment(environ: Mapping[str, str], run_dir: Path, cache_dir: str) -> dict[str, str]:
    """What an engine gets of our environment, and where it may write."""
    # The engine runs code of others: our secrets and our service manager are none of its business.
    kept = {
        key: value
        for key, value in environ.items()
        if not key.startswith("HEADRACE_") and key not in {"NOTIFY_SOCKET", "PYTHONSTARTUP"}
    }
    cache = Path(cache_dir) if cache_dir else run_dir / "cache"
    return kept | {
        "TMPDIR": str(run_dir),
        "VLLM_RPC_BASE_PATH": str(run_dir),
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "PYTHONUNBUFFERED": "1",
        # A compute node has no way out, and what is asked there is nobody else's business.
        "HF_HUB_OFFLINE": kept.get("HF_HUB_OFFLINE", "1"),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }


def interpreter() -> list[str]:
    """Python for our own helpers; -P keeps the working directory off the module path."""
    return [sys.executable, "-P"]
