"""Who is measured side by side: ways from a client to the same two engines on this machine."""

import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import msgspec

from loadtests.bench import litellm, ssh_baseline
from loadtests.bench.models import FAST, STEADY
from loadtests.bench.parts import NotServing
from loadtests.bench.stage import Stage
from loadtests.load.plans import Plan

ENGINES: Final = (FAST, STEADY)
"""One without a delay between tokens, and one with a realistic one."""

DIRECT, LITELLM, SSH, HEADRACE = "direct", "LiteLLM", "ssh per request", "Headrace"


class Contender(msgspec.Struct, frozen=True):
    """A way to the engines. `roots` are the processes that are its own, by name."""

    name: str
    what: str
    targets: Mapping[str, str]
    roots: Callable[[], dict[str, int]]
    key: str = ""

    def plan(self, model: str, load: Plan) -> Plan:
        """The load `load`, for a model on this way."""
        target = self.targets[model]
        return msgspec.structs.replace(load, target=target, model=model, api_key=self.key)


class Field(msgspec.Struct, frozen=True):
    """All that serve, why others don't, and the engines' processes by model."""

    contenders: list[Contender]
    missing: dict[str, str]
    engines: Mapping[str, int]


@asynccontextmanager
async def field(stage: Stage, *, rivals: bool = True) -> AsyncIterator[Field]:
    """Everything started; without `rivals` only the engine and Headrace."""
    await stage.serve(*ENGINES)
    ports = {model.name: stage.engine_port(model) for model in ENGINES}
    engines = {model.name: stage.pid(f"engine-{model.name}") for model in ENGINES}
    async with AsyncExitStack() as stack:
        direct = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        found = [Contender(DIRECT, "the engine itself, over TCP", direct, dict)]
        missing: dict[str, str] = {}
        starts = {LITELLM: _litellm, SSH: _ssh} if rivals else {}
        for name, start in starts.items():
            try:
                found.append(await start(stack, ports))
            except (NotServing, OSError) as error:
                traceback.print_exc()
                missing[name] = str(error).splitlines()[0]

        served = dict.fromkeys(ports, stage.url)
        found.append(
            Contender(
                HEADRACE,
                "edge, hub, bridge, SSH, gate, leaf, worker",
                served,
                lambda: stage.path(*ENGINES),
                stage.key,
            )
        )
        yield Field(found, missing, engines)


async def _litellm(stack: AsyncExitStack, ports: Mapping[str, int]) -> Contender:
    proxy = await stack.enter_async_context(litellm.running(ports))
    what = f"LiteLLM {litellm.installed()}'s proxy, {litellm.WORKERS} worker processes"
    targets = dict.fromkeys(ports, proxy.url)
    return Contender(LITELLM, what, targets, lambda: {"litellm": proxy.pid}, proxy.key)


async def _ssh(stack: AsyncExitStack, ports: Mapping[str, int]) -> Contender:
    url, pids = await stack.enter_async_context(ssh_baseline.running(ports))
    targets = {name: f"{url}/{name}" for name in ports}
    what = "the reference's way: an ssh client process per request, curl as forced command"
    return Contender(SSH, what, targets, lambda: dict(pids))
