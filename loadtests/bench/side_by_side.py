"""The engine, LiteLLM, the reference's way and Headrace under the same loads, in turns.

Each round gives every contender the same load, one after the other, and the next round begins with
another one, so that whatever else the machine does hits all alike. Numbers are medians over the
rounds, and only ratios within one run mean something.
"""

from collections.abc import Callable, Sequence
from time import perf_counter

import msgspec

from loadtests.bench.contenders import Contender, Field, field
from loadtests.bench.loads import Load, Size
from loadtests.bench.machine import machine
from loadtests.bench.metered import Metered, metered
from loadtests.bench.models import FAST
from loadtests.bench.quiet import calm
from loadtests.bench.rows import Level, SideBySide, alone, row
from loadtests.bench.stage import Stage
from loadtests.load.fleet import measure
from loadtests.load.loops import closed
from loadtests.load.plans import Closed, Plan
from loadtests.load.requests import Requester
from loadtests.load.samples import Sample


async def run(stage: Stage, size: Size, keep: Callable[[SideBySide], None]) -> SideBySide:
    """Measure everything; `keep` gets what there is after each load. Raises NotServing."""
    on = machine()
    async with field(stage, rivals=size.rivals) as found:
        result = SideBySide(
            machine=on,
            contenders={each.name: each.what for each in found.contenders},
            missing=found.missing,
            levels=[],
        )
        await warm_up(found.contenders, size.warm_up)
        result.levels.append(await one_stream(found, size.turns))
        keep(result)
        for load in size.loads:
            print(f"  {load.streams} streams of {load.tokens} tokens ...", flush=True)
            result.levels.append(await level(found, load))
            keep(result)
    return result


async def warm_up(contenders: Sequence[Contender], requests: int) -> None:
    """Send some to everybody, unmeasured."""
    load = Plan(target="", arrivals=Closed(16), requests=requests, seconds=3600)
    for contender in contenders:
        for model in contender.targets:
            await measure(contender.plan(model, load), 1)


async def one_stream(found: Field, turns: int) -> Level:
    """One request at a time, to each contender in turn. Raises RuntimeError for a wrong answer."""
    load = Plan(target="", arrivals=Closed(1), seconds=3600, requests=1)
    asking = {
        each.name: Requester(each.plan(FAST.name, load), part=n)
        for n, each in enumerate(found.contenders)
    }
    samples: dict[str, list[Sample]] = {name: [] for name in asking}
    unmeasured = max(3, turns // 10)
    for turn in range(unmeasured + turns):
        for name, requester in asking.items():
            made = await closed(requester, load, 1, perf_counter(), 1)
            if turn >= unmeasured:
                samples[name] += made
    for requester in asking.values():
        requester.close()
    return Level(
        streams=1, tokens=load.tokens, delay_ms=0.0, rounds=turns,
        rows=[alone(name, load.tokens, made) for name, made in samples.items()],
    )  # fmt: skip


async def level(found: Field, load: Load) -> Level:
    """Every contender under `load`, in turns."""
    runs: dict[str, list[Metered]] = {each.name: [] for each in found.contenders}
    for n in range(load.rounds):
        turned = n % len(found.contenders)
        for contender in [*found.contenders[turned:], *found.contenders[:turned]]:
            roots = contender.roots() | {"engine": found.engines[load.model.name]}
            plan = contender.plan(load.model.name, load.plan)
            # No two rounds' requests are the same.
            plan = msgspec.structs.replace(plan, seed=n)
            began = perf_counter()
            made = await metered(plan, load.generators, roots)
            runs[contender.name].append(made)
            told = f"{made.summary.requests_per_second:.0f} requests/s, {made.summary.outcomes}"
            print(f"    {contender.name}: {told} ({perf_counter() - began:.0f} s)", flush=True)
            if not await calm(found.contenders[0].targets[load.model.name], roots):
                print(f"    {contender.name} goes on although nobody waits", flush=True)
    return Level(
        streams=load.streams,
        tokens=load.tokens,
        delay_ms=load.model.delay_ms,
        rounds=load.rounds,
        rows=[row(name, made) for name, made in runs.items()],
    )
