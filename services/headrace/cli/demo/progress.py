"""What the demo tells: its progress, the examples to try, and one request as it happens."""

import asyncio
from collections.abc import Sequence
from typing import Final

from headrace.cli.demo import example_chat, probes
from headrace.cli.demo.info_file import DemoInfo, InfoFile
from headrace.cli.demo.screen import Screen
from headrace.cli.demo.supervisor import Supervisor
from headrace.cli.http import HttpError
from headrace.cli.setup.site import Site

WORKER_SECONDS: Final = 20.0
"""How long `ready:` waits for the first worker of a small engine."""


async def tell(
    screen: Screen,
    site: Site,
    info: DemoInfo,
    keepers: Sequence[Supervisor],
    published: InfoFile,
    *,
    patient: bool,
    hint: str = "",
) -> None:
    """From the first process to the first answer; `patient` waits for a worker before `ready:`.

    With a scaler the model must be known, but nothing of it need run. `hint` is told last.
    """
    steps = {keeper.part.name: keeper.part for keeper in keepers}
    for name in ("leaf", "sshd", "bridge", "hub", "slurmctld", "scaler"):
        if name in steps:
            await probes.until(steps[name].probe)
            screen.say(f"{name} is up: {steps[name].address}")
    await probes.until(probes.linked(site.hub_monitor_port))
    screen.say("hub and leaf are joined, through SSH and the gate")
    await probes.until(steps["edge"].probe)
    screen.say(f"edge is up: {steps['edge'].address}")
    if "scaler" in steps:
        await probes.until(probes.listed(info.base_url, info.api_key))
        screen.say(f"{info.model} is known, and sleeps: nothing runs for it yet")
    elif patient:
        await _first_worker(screen, info)
    screen.table(keepers, published.show().engines)
    ready(screen, info)
    await _show(screen, info)
    if hint:
        screen.plain(hint)
    screen.plain("\nCtrl-C ends everything.")


async def _first_worker(screen: Screen, info: DemoInfo) -> None:
    try:
        async with asyncio.timeout(WORKER_SECONDS):
            await probes.until(probes.workers_ready(info.base_url, info.api_key, 1))
    except TimeoutError:
        screen.say(f"{info.model} still loads: requests wait for it in the queue")
    else:
        screen.say(f"{info.model} is loaded and has answered its first request")


def ready(screen: Screen, info: DemoInfo) -> None:
    """The line that says so, and what to try."""
    screen.plain(f"ready: {info.base_url}  key {info.api_key}", "bold green")
    screen.plain(EXAMPLES.format(info=info))


EXAMPLES: Final = """
curl -N {info.base_url}/chat/completions -H 'Authorization: Bearer {info.api_key}' \\
  -H 'Content-Type: application/json' -d '{{"model": "{info.model}", "stream": true,
  "messages": [{{"role": "user", "content": "Hello!"}}]}}'

from openai import OpenAI
client = OpenAI(base_url="{info.base_url}", api_key="{info.api_key}")
messages = [{{"role": "user", "content": "Hello!"}}]
print(client.chat.completions.create(model="{info.model}", messages=messages))
"""


async def _show(screen: Screen, info: DemoInfo) -> None:
    show = example_chat.Show(
        question=lambda text: screen.plain(f"A streamed chat, as it happens: {text}", "bold"),
        comment=lambda text: screen.plain(text, "yellow"),
        token=lambda text: screen.stream(text, "cyan"),
        end=lambda text: screen.plain(f"\n({text})", "dim"),
    )
    try:
        await asyncio.to_thread(example_chat.run, info.base_url, info.api_key, info.model, show)
    except HttpError as error:
        screen.plain(f"\nthe request failed: {error}", "red")
