"""The simulated engine's options, from the command line and the environment."""

import argparse
import os
from collections.abc import Mapping, Sequence

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Every default. The engine listens on `uds`, on `port` or on both; a negative port is none."""

    uds: str = ""
    host: str = "127.0.0.1"
    port: int = -1
    model: str = "sim"
    slots: int = 256
    tokens: int = 30
    delay_ms: float = 0.0
    coalesce: int = 1
    dimensions: int = 384
    load_seconds: float = 0.0
    load_silent: bool = False
    die_after_tokens: int = 0
    hang: bool = False
    status: int = 0


_HELP = {
    "uds": "Unix socket to listen on",
    "host": "address to listen on",
    "port": "port to listen on; 0 takes a free one, which the first line of output tells",
    "model": "the served model's name",
    "slots": "requests that run at once; more of them wait, first come first served",
    "tokens": "tokens of an answer whose request sets no max_tokens (environment: SIM_TOKENS)",
    "delay_ms": "milliseconds from token to token (environment: SIM_DELAY_MS)",
    "coalesce": "tokens that may share one write; vLLM writes each by itself",
    "dimensions": "length of an embedding",
    "load_seconds": "until then the model loads: everything is answered with 503, like llama.cpp",
    "load_silent": "while the model loads, do not even listen, like vLLM",
    "die_after_tokens": "fault: kill the process when it has sent so many tokens; 0 for never",
    "hang": "fault: never answer a request for an inference",
    "status": "fault: answer every request for an inference with this status",
}


def parse(argv: Sequence[str] | None, environ: Mapping[str, str] = os.environ) -> Options:
    """The options in `argv`; the environment gives defaults for the two that the demo passes on."""
    parser = argparse.ArgumentParser(prog="simengine", description="A simulated engine.")
    defaults = Options(
        tokens=int(environ.get("SIM_TOKENS", 30)),
        delay_ms=float(environ.get("SIM_DELAY_MS", 0)),
    )
    for name, default in msgspec.structs.asdict(defaults).items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(flag, action="store_true", help=_HELP[name])
        else:
            parser.add_argument(flag, type=type(default), default=default, help=_HELP[name])
    arguments = vars(parser.parse_args(argv))
    options = Options(**arguments)
    if not options.uds and options.port < 0:
        parser.error("nowhere to listen: give --uds or --port")
    return options
