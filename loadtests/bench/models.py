"""The models of the bench: each is an engine with some delay, and a worker somewhere."""

from typing import Any, Final

import msgspec

from loadtests.bench.places import python_path

SLOTS: Final = 2048
"""Of worker and engine: what is measured is the path, never its queue."""


class Model(msgspec.Struct, frozen=True):
    """A model with a worker. `at_hub`: on the web machine, with no SSH connection between."""

    name: str
    delay_ms: float = 0.0
    at_hub: bool = False

    def tables(self, python: str, port: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """``[engine]`` and ``[engine.env]`` of worker.toml; the engine also listens on `port`."""
        command = [python, "-m", "loadtests.simengine", "--uds", "{socket}", "--port", str(port)]
        command += ["--model", "{name}", "--slots", str(SLOTS), "--delay-ms", str(self.delay_ms)]
        # As with vLLM, whose answers come with their tokens' ids so that others can continue them.
        engine = {"kind": "command", "command": command, "continues": "tokens"}
        return engine, {"PYTHONPATH": python_path()}


FAST: Final = Model("fast")
"""No delay between tokens: what it shows is the ceiling of the path."""

STEADY: Final = Model("steady", delay_ms=20.0)
"""As fast as a realistic model."""

SLOW: Final = Model("slow", delay_ms=100.0)
"""So slow that hundreds of its streams leave the machine idle."""

NEAR: Final = Model("near", at_hub=True)

ASLEEP: Final = "asleep"
"""Has no worker: whoever asks it waits."""

STUB: Final = "stub"
"""Has workers without an engine (`loadtests.bench.stub_worker`)."""

STUB_NEAR: Final = "stub-near"
"""The same, at the hub."""

AT_HUB: Final = (NEAR.name, ASLEEP, STUB_NEAR)
"""Whose requests are taken at the hub itself, with the rights of external models' workers."""

NAMES: Final = (
    *(model.name for model in (FAST, STEADY, SLOW, NEAR)),
    *(ASLEEP, STUB, STUB_NEAR),
)
