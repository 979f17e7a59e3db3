"""Which engine serves a model, and how: the words that worker.toml and the catalogue share."""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from headrace.protocol.names import LANES

Seconds = Annotated[float, Meta(gt=0)]
Slots = Annotated[int, Meta(ge=1, le=4096)]
Weight = Annotated[int, Meta(ge=1, le=1000)]


class EngineKind(StrEnum):
    """Which engine to start."""

    VLLM = "vllm"
    LLAMACPP = "llamacpp"
    COMMAND = "command"


class ResumeMode(StrEnum):
    """How an engine continues an answer that another one has begun."""

    TOKENS = "tokens"
    """After token ids, which it tells as it streams: vLLM's ``return_token_ids``, ``/tokenize`` and
    ``/detokenize``. By the text where the ids don't do."""
    TEXT = "text"
    """After the text, as the last message or the end of the prompt."""
    NO = "no"


class EngineOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The engine: what to start, and when to give it up."""

    kind: EngineKind
    model: str = ""
    """The model's file or folder (or, for vLLM, its name on the hub where that is cached)."""
    args: tuple[str, ...] = ()
    """More arguments for the engine, each as it is: no shell reads them."""
    env: dict[str, str] = {}
    """More environment for the engine."""
    command: tuple[str, ...] = ()
    """Of kind ``command``: the argv; ``{socket}``, ``{model}`` and ``{name}`` are filled in."""
    python: str = ""
    """The interpreter that has the engine, by default the worker's own; vLLM lives in an
    environment of its own."""
    continues: ResumeMode | None = None
    """How it goes on after the answer of a worker that was lost: ``tokens``, ``text`` or ``no``.
    By default vLLM by tokens, llama.cpp by text, and a command not at all."""
    cache_dir: str = ""
    """Where the engine keeps what it compiled; by default in the run directory, until the end."""
    health_path: Annotated[str, Meta(pattern="^/[!-~]*$")] = "/health"
    start_seconds: Seconds = 1800.0
    """An engine that does not answer its first request in this time is given up."""
    stop_seconds: Seconds = 10.0
    """How long the engine may take to end before it is killed."""
    probe_seconds: Seconds = 5.0
    """How often the engine is asked whether it is well."""
    probe_timeout_seconds: Seconds = 10.0
    """A busy engine on a busy machine answers late; one that hangs, never."""
    probe_failures: Annotated[int, Meta(ge=1)] = 3
    """After so many unanswered probes in a row the engine counts as hung."""

    @property
    def way(self) -> ResumeMode:
        """How it continues an answer."""
        return _WAYS[self.kind] if self.continues is None else self.continues


_WAYS: Final = {
    EngineKind.VLLM: ResumeMode.TOKENS,
    EngineKind.LLAMACPP: ResumeMode.TEXT,
    EngineKind.COMMAND: ResumeMode.NO,
}


class Lanes(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The weights by which waiting requests are taken from the lanes."""

    high: Weight = 32
    normal: Weight = 4
    low: Weight = 1

    @property
    def weights(self) -> dict[str, int]:
        """The weight of each lane, the heaviest first."""
        weights = {lane: getattr(self, lane) for lane in LANES}
        return dict(sorted(weights.items(), key=lambda each: -each[1]))


def check(engine: EngineOptions) -> None:
    """Raise ValueError for what the types alone don't refuse."""
    if engine.kind is EngineKind.COMMAND:
        if not any("{socket}" in part for part in engine.command):
            raise ValueError("engine.command: must be an argv with {socket} in it")
    elif engine.command:
        raise ValueError(f'engine.command: is for kind = "command", not "{engine.kind}"')
    elif not engine.model:
        raise ValueError(f'engine.model: missing; kind = "{engine.kind}" needs one')
