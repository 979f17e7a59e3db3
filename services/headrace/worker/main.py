"""``headrace-worker``: serve one model of a cluster."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from headrace.protocol import subjects
from headrace.protocol.names import ProcessId
from headrace.runtime import lifecycle, logging
from headrace.runtime.config import ConfigError
from headrace.worker import options
from headrace.worker.engine.backend import Backend
from headrace.worker.engine.local import LocalEngine
from headrace.worker.options import CommonOptions
from headrace.worker.provider import options as external
from headrace.worker.provider.backend import ProviderBackend
from headrace.worker.service import Worker

HELP = """\
Serve one model: start its engine, wait until it answers, then take requests from the queue and
stream the answers back, until the engine dies or a signal asks the worker to end.
"""

EXAMPLE = """\
worker.toml:
  cluster = "c1"                          # as in the other parts' configuration
  model   = "qwen3-8b"                    # the slug: part of subjects
  name    = "Qwen/Qwen3-8B"               # as clients write it
  slots   = 64                            # requests in work at once

  [bus]
  url       = "nats://service-node:4222"  # the cluster's own nats-server
  nkey_file = "/etc/headrace/worker.nk"   # 0600

  [engine]
  kind   = "vllm"                         # or "llamacpp", or "command"
  model  = "/models/Qwen3-8B"
  python = "/opt/vllm/bin/python"         # the interpreter that has vLLM
  args   = ["--max-model-len", "16384"]   # handed to the engine as they are

  # kind = "command": any server of OpenAI's API that can listen on a Unix socket
  # command = ["my-server", "--socket={socket}", "--model", "{model}"]

The environment overrides: HEADRACE_WORKER__SLOTS=8, HEADRACE_WORKER__BUS__URL=nats://...
The end of the walltime comes from HEADRACE_WORKER__ENDS_AT, which the scaler's jobs set, or from
SLURM_JOB_END_TIME; the drain begins in time before it.

SIGTERM drains: nothing new is taken, and what runs gets `drain_seconds` to end; the engine does not
hear it. SIGTERM once more leaves 15 s at most: Slurm may kill soon. SIGINT ends a drain at once.

external.toml, for --external SLUG on the web machine (docs/guides/external.md):
  models = "models.d"                     # the folder of the models' files
  [bus]
  url       = "nats://127.0.0.1:4222"     # the hub
  nkey_file = "keys/hub-worker.nk"

Exit codes: 0 drained, 1 the engine or the worker failed (the last line says why), 78 configuration.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="headrace-worker",
        description=HELP,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--config", type=Path, metavar="worker.toml", help="the configuration, in TOML"
    )
    made.add_argument(
        "--external", metavar="SLUG",
        help="on the web machine: take this external model of the folder that external.toml names",
    )  # fmt: skip
    return made


def main() -> int:
    """Run the worker; the exit code."""
    arguments = parser().parse_args()
    try:
        if arguments.external:
            sold = external.load(arguments.config, arguments.external)
            return _run(
                sold.worker,
                lambda log: ProviderBackend(sold.file, sold.key, sold.ca_file, log),
                subjects.external_inbox,
            )
        chosen = options.load(arguments.config)
    except ConfigError as error:
        sys.stderr.write(f"headrace: {error}\n")
        return lifecycle.EXIT_CONFIG
    return _run(chosen, lambda _: LocalEngine(chosen), subjects.worker_inbox)


def _run(
    chosen: CommonOptions,
    engine: Callable[[logging.Logger], Backend],
    inbox: Callable[[ProcessId], str],
) -> int:
    log = logging.setup("worker", chosen.log_level)

    async def serve(life: lifecycle.Lifecycle) -> int:
        return await Worker(chosen, engine(log), log, inbox).run(life)

    return lifecycle.run(serve, log, drain_seconds=chosen.drain_seconds)


if __name__ == "__main__":
    sys.exit(main())
