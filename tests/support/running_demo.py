"""A running demo, in a directory of its own: the whole path with real parts."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from headrace.devcluster.loopback import free_port
from loadtests.words import expected_text
from tests.support.parts import ROOT

START_SECONDS = 90.0
STOP_SECONDS = 30.0


class Demo:
    """`headrace demo` as a process, and what its ``info.json`` says."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]", output: Path) -> None:
        self.folder = folder
        self.process = process
        self._output = output

    def output(self) -> str:
        """All that it has printed."""
        return self._output.read_text()

    def info(self) -> dict[str, Any]:
        """``info.json`` as it is now."""
        info: dict[str, Any] = json.loads((self.folder / "info.json").read_text())
        return info

    def pid(self, part: str) -> int:
        """The process of a part, as it is now."""
        return int(self.info()["pids"][part])

    def kill(self, part: str) -> int:
        """SIGKILL to a part; the pid that it had."""
        pid = self.pid(part)
        os.kill(pid, signal.SIGKILL)
        return pid

    def logs(self) -> str:
        """Every log of the demo, for a test's message."""
        return "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}"
            for log in sorted((self.folder / "logs").glob("*.log"))
        )

    def wait_for_line(self, start: str) -> None:
        """Wait until it has printed a line that begins so."""
        deadline = time.monotonic() + START_SECONDS
        while not any(line.startswith(start) for line in self.output().splitlines()):
            assert self.process.poll() is None, f"the demo has ended:\n{self.output()}"
            assert time.monotonic() < deadline, f"no {start!r}:\n{self.output()}\n{self.logs()}"
            time.sleep(0.05)


@contextlib.contextmanager
def running(folder: Path, *options: str, **environ: str) -> Iterator[Demo]:
    """A demo that is ready; it ends with the context, and leaves nothing behind."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "output.txt"
    command = str(Path(sys.executable).with_name("headrace"))
    argv = [command, "demo", "--dir", str(folder / "demo")]
    argv += ["--port", str(free_port()), *options]
    with output.open("wb") as file:
        process = subprocess.Popen(
            argv, stdout=file, stderr=file, cwd=ROOT, env={**os.environ, **environ}
        )
    demo = Demo(folder / "demo", process, output)
    try:
        demo.wait_for_line("ready:")
        yield demo
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


class Outcome(msgspec.Struct):
    """How one stream ended, as its client saw it."""

    text: str = ""
    done: bool = False
    error: str = ""
    """The code of a typed error, or what broke."""
    seconds: float = 0.0
    comments: int = 0
    begun: float = 0.0
    """When it was asked, in Unix seconds; 0 where it was not."""
    first: float = 0.0
    """When its first token came."""


async def stream(
    http: aiohttp.ClientSession, info: dict[str, Any], content: str, tokens: int
) -> Outcome:
    """Ask for `tokens` tokens and read them to whatever end."""
    body = chat(info["model"], content, tokens)
    headers = {"authorization": f"Bearer {info['api_key']}"}
    outcome = Outcome(begun=time.time())
    began = time.monotonic()
    try:
        url = f"{info['base_url']}/chat/completions"
        async with http.post(url, json=body | {"stream": True}, headers=headers) as answer:
            if answer.status != 200:
                outcome.error = (await answer.json())["error"]["code"]
            else:
                await _read(answer, outcome)
    except (aiohttp.ClientError, TimeoutError) as error:
        outcome.error = f"broken: {type(error).__name__}"
    outcome.seconds = time.monotonic() - began
    return outcome


def chat(model: str, content: str, tokens: int) -> dict[str, Any]:
    """A chat request for `tokens` tokens."""
    messages = [{"role": "user", "content": content}]
    return {"model": model, "messages": messages, "max_tokens": tokens}


def expected(info: dict[str, Any], content: str, tokens: int) -> str:
    """What the simulated engine answers to it."""
    return expected_text(chat(info["model"], content, tokens), tokens)


async def _read(answer: aiohttp.ClientResponse, outcome: Outcome) -> None:
    async for line in answer.content:
        if line.startswith(b":"):
            outcome.comments += 1
        elif line.startswith(b"data: [DONE]"):
            outcome.done = True
        elif line.startswith(b"data: "):
            chunk = json.loads(line[6:])
            if "error" in chunk:
                outcome.error = chunk["error"]["code"]
            else:
                outcome.first = outcome.first or time.time()
                outcome.text += "".join(
                    choice["delta"].get("content") or "" for choice in chunk["choices"]
                )
