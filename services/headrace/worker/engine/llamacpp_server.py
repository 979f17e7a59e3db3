"""llama.cpp's own HTTP server in a process, on a Unix socket: an engine for small machines.

``--set NAME=VALUE`` sets any number, flag or text of llama.cpp's parameters, such as
``--set cpuparams.n_threads=4`` or ``--set embedding=true``.
"""

import argparse
import ast
import os
import signal
from typing import Any, Final

CONTEXT_PER_SLOT: Final = 2048
"""Tokens of context per slot unless told otherwise: memory grows with it."""

THREADS_BESIDE_SLOTS: Final = 4
"""The server keeps one thread per open stream; health checks and metrics must find a free one."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--uds", required=True, help="the socket to listen on; ends in .sock")
    made.add_argument("--model", required=True, help="the GGUF file")
    made.add_argument("--served-model-name", required=True)
    made.add_argument("--slots", type=int, default=8)
    made.add_argument("--ctx-per-slot", type=int, default=CONTEXT_PER_SLOT)
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    return made


def parameters(arguments: argparse.Namespace) -> Any:
    """llama.cpp's parameters. Raises SystemExit for one that it doesn't know."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.model_alias = {arguments.served_model_name}
    params.hostnames = [arguments.uds]
    params.port = 0
    params.n_parallel = arguments.slots
    params.n_ctx = arguments.slots * arguments.ctx_per_slot
    params.n_threads_http = arguments.slots + THREADS_BESIDE_SLOTS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads()
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.ui = False
    # The prompts of ended requests would stay in memory for a cache that batch jobs don't need.
    params.cache_ram_mib = 0
    for setting in arguments.set:
        assign(params, setting)
    return params


def threads() -> int:
    """How many threads compute: half of the CPUs that this process may use.

    Where a core runs two threads that is one for each core. And llama.cpp's threads wait for each
    other in a spin: when one has to share its CPU with the rest of a small machine, all of them
    become many times slower.
    """
    return max(1, len(os.sched_getaffinity(0)) // 2)


def assign(params: Any, setting: str) -> None:
    """Set one of llama.cpp's parameters; a dot goes one structure down."""
    names, _, text = setting.partition("=")
    *outer, name = names.split(".")
    try:
        for each in outer:
            params = getattr(params, each)
        current = getattr(params, name)
        setattr(params, name, text if isinstance(current, str) else value(text))
    except (AttributeError, TypeError) as error:
        raise SystemExit(f"llama.cpp has no such parameter: {setting} ({error})") from error


def value(text: str) -> Any:
    """The number, flag or text that `text` spells."""
    try:
        return ast.literal_eval(text.capitalize() if text in {"true", "false"} else text)
    except (ValueError, SyntaxError):
        return text


def main() -> None:
    """Serve until a signal."""
    import xllamacpp

    # Python's own handler would wait until a model has loaded.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    server = xllamacpp.Server(parameters(parser().parse_args()))
    # The server's threads do all the work; the default action of the signals ends the process.
    while server.listening_address:
        signal.pause()


if __name__ == "__main__":
    main()
