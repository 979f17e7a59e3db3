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
@click.option(
    "--workers",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="With --slurm: at most so many, and at least two.",
)
@click.option(
    "--slurm",
    is_flag=True,
    help="A real Slurm of four pretended nodes: workers are its jobs, and the model sleeps at "
    "first. Needs root, and the packages slurm-wlm and munge.",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var/demo"),
    show_default=True,
    help="For configuration, keys and logs.",
)
def demo(port: int, engine: str, workers: int, slurm: bool, directory: Path) -> None:
    """Run all of Headrace on this machine, in the foreground, with a small real model.

    The web machine's nats-server, edge and bridge; an SSH server whose only key may run the gate;
    the cluster's nats-server; workers with their engines. DIR/info.json tells programs where it is
    while it serves. Ctrl-C ends everything.

    With --slurm nobody starts a worker by hand: the first request waits, the scaler submits a job
    for it, and a minute after the last one no job is left. Watch it in a second terminal:
    headrace top --state DIR/clusters/local/state
    """
    # The demo needs far more packages than the rest of the command line.
    from headrace.cli.demo.run import serve

    sys.exit(serve(port, engine, workers, directory, slurm=slurm))
