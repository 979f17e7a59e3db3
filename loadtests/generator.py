"""The load generator: ``python -m loadtests.generator TARGET --streams 16 --seconds 10``.

It measures the time to the first token, the gaps between tokens, throughput and errors, checks
every token of a simulated engine, and prints the summary as JSON.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

import msgspec

from loadtests.load.fleet import measure
from loadtests.load.plans import Arrivals, Bursts, Closed, Plan, Poisson, Recorded


def parse(argv: Sequence[str] | None) -> tuple[Plan, int]:
    """The plan and the number of processes in `argv`."""
    parser = argparse.ArgumentParser(prog="generator", description="The load generator.")
    add = parser.add_argument
    add("target", help="http://HOST:PORT or unix:/PATH of an OpenAI-compatible service")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--streams", type=int, default=1, help="closed loop: requests at a time")
    ways.add_argument("--rate", type=float, help="open loop: Poisson arrivals per second")
    ways.add_argument(
        "--burst", nargs=2, type=float, metavar=("SIZE", "SECONDS"), help="open loop: SIZE at once"
    )
    ways.add_argument("--trace", help="open loop: arrivals and lengths as recorded in this file")
    add("--speed", type=float, default=1.0, help="of the recorded arrivals")
    add("--processes", type=int, default=1, help="generator processes")
    add("--no-stream", dest="stream", action="store_false", help="ask for whole answers")
    add("--no-verify", dest="verify", action="store_false", help="for an engine that is no fake")
    defaults = {field.name: field.default for field in msgspec.structs.fields(Plan)}
    for name in ("seconds", "requests", "tokens", "prompt_bytes", "model", "api_key", "timeout"):
        add(f"--{name.replace('_', '-')}", type=type(defaults[name]), default=defaults[name])
    add("--seed", type=int, default=0)
    given = vars(parser.parse_args(argv))
    arrivals: Arrivals = Closed(given.pop("streams"))
    if rate := given.pop("rate"):
        arrivals = Poisson(rate)
    if burst := given.pop("burst"):
        arrivals = Bursts(int(burst[0]), burst[1])
    speed = given.pop("speed")
    if trace := given.pop("trace"):
        arrivals = Recorded(trace, speed)
    processes = given.pop("processes")
    return Plan(arrivals=arrivals, **given), processes


def main(argv: Sequence[str] | None = None) -> None:
    """Make a load as the command line says and print what came of it."""
    plan, processes = parse(argv)
    result = asyncio.run(measure(plan, processes))
    print(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())
    if set(result.outcomes) - {"ok"}:
        sys.exit(1)


if __name__ == "__main__":
    main()
