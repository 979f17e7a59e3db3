"""LiteLLM's proxy, as lean as a sensible operator would run it.

It has a key of its own, as Headrace has; no database, no cache, no callbacks, no retries, no
verbose logs, no pages; one worker process per processor, as its documentation advises; and the
price list that it comes with, in place of one from the network.
"""

import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from headrace.cli.demo import probes
from headrace.devcluster.loopback import free_port
from loadtests.bench.parts import NotServing, Running
from loadtests.bench.places import ROOT

ENVIRONMENT: Final = ROOT / ".venv-litellm"
START_SECONDS: Final = 180.0
WORKERS: Final = os.cpu_count() or 1

_ENV: Final = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "NO_DOCS": "True",
    # Ours is for our own interpreter.
    "PYTHONPATH": "",
}


class LiteLLM(msgspec.Struct, frozen=True):
    """A proxy that serves."""

    url: str
    key: str
    pid: int


def installed() -> str:
    """The installed version, empty if there is none."""
    found = sorted(ENVIRONMENT.glob("lib/python*/site-packages/litellm-*.dist-info"))
    return found[0].name.removeprefix("litellm-").removesuffix(".dist-info") if found else ""


@asynccontextmanager
async def running(engines: Mapping[str, int]) -> AsyncIterator[LiteLLM]:
    """Serve engines, given by their model's name and port. Raises NotServing."""
    if not installed():
        raise NotServing("LiteLLM is not installed: infra/dev/make-tool litellm")
    key, port = f"sk-{secrets.token_hex(16)}", free_port()
    with tempfile.TemporaryDirectory(prefix="hr-litellm-") as folder:
        config = Path(folder) / "config.yaml"  # JSON is YAML too
        config.write_bytes(msgspec.json.encode(_config(engines, key)))
        program = ENVIRONMENT / "bin"
        argv = [str(program / "python"), str(program / "litellm"), "--config", str(config)]
        argv += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", str(WORKERS)]
        # A worker that is busy, or still loading, is otherwise taken for dead after 5 s.
        argv += ["--timeout_worker_healthcheck", "60"]
        proxy = Running("litellm", argv, _ENV, Path(folder) / "log")
        try:
            url = f"http://127.0.0.1:{port}"
            await proxy.ready(probes.answers(f"{url}/health/liveliness"), START_SECONDS)
            yield LiteLLM(url, key, proxy.pid)
        finally:
            await proxy.end()


def _config(engines: Mapping[str, int], key: str) -> dict[str, object]:
    def served(name: str, port: int) -> dict[str, object]:
        at = {"api_base": f"http://127.0.0.1:{port}/v1", "api_key": "none"}
        return {"model_name": name, "litellm_params": {"model": f"openai/{name}", **at}}

    return {
        "model_list": [served(name, port) for name, port in engines.items()],
        "litellm_settings": {"set_verbose": False, "num_retries": 0, "request_timeout": 600},
        "general_settings": {"master_key": key},
    }
