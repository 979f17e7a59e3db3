"""`headrace demo` as a command."""

import sys
from pathlib import Path

import click

ENGINES = ("llamacpp", "vllm", "sim")


@click.command(short_help="Serve a small model on this machine.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8080,
    show_default=True,
    help="Where the API listens, on 127.0.0.1.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default=ENGINES[0],
    show_default=True,
    help="llama.cpp, vLLM's CPU build, or a simulated engine.",
)
@click.option("--workers", type=click.IntRange(1, 16), default=1, show_default=True)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var/demo"),
    show_default=True,
    help="For configuration, keys and logs.",
)
def demo(port: int, engine: str, workers: int, directory: Path) -> None:
    """Run all of Headrace on this machine, in the foreground, with a small real model.

    The web machine's nats-server, edge and bridge; an SSH server whose only key may run the gate;
    the cluster's nats-server; workers with their engines. DIR/info.json tells programs where it is
    while it serves. Ctrl-C ends everything.
    """
    # The demo needs far more packages than the rest of the command line.
    from headrace.cli.demo.run import serve

    sys.exit(serve(port, engine, workers, directory))
