"""A plan's requests, and the sample that each leaves."""

import asyncio
import math
from itertools import pairwise
from time import perf_counter
from typing import Any

import msgspec

from loadtests.load import answers
from loadtests.load.addresses import Address, parse
from loadtests.load.http import Connection, Cut, Response, connect
from loadtests.load.plans import Plan
from loadtests.load.samples import Sample
from loadtests.words import expected_text

_NEVER = math.nan


class Requester:
    """Sends requests of a plan over kept connections. No two of its requests have the same prompt.

    `part` is the number of the generator process, so that no two processes' have either.
    """

    def __init__(self, plan: Plan, part: int = 0) -> None:
        self._plan = plan
        self._address: Address = parse(plan.target)
        self._idle: list[Connection] = []
        self._part = part
        self._count = 0
        self._slots = asyncio.Semaphore(plan.max_connections)
        key = f"authorization: Bearer {plan.api_key}\r\n" if plan.api_key else ""
        self._head = (
            f"POST {self._address.prefix}/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            f"content-type: application/json\r\n{key}content-length: "
        ).encode()

    async def request(self, due: float = _NEVER, tokens: int = 0) -> Sample:
        """One request, from now to its end. `due` is when it should have begun (`perf_counter`).

        It asks for `tokens` tokens, or as the plan says. Of one that takes longer than the plan's
        time-out the tokens count that came by then.
        """
        async with self._slots:
            body = self._body(tokens or self._plan.tokens)
            data = msgspec.json.encode(body)
            message = b"%b%d\r\n\r\n%b" % (self._head, len(data), data)
            connection = None
            begun = perf_counter()
            response: Response | str
            try:
                async with asyncio.timeout(self._plan.timeout):
                    # Connecting counts: a client would wait for it too.
                    connection = self._kept() or await connect(self._address)
                    response = await connection.exchange(message)
            except TimeoutError:
                response = "timeout"
            except (OSError, Cut):
                response = "no connection" if connection is None else "cut"
            ended = perf_counter()
            if connection is not None:
                if isinstance(response, Response) and connection.reusable:
                    self._idle.append(connection)
                else:
                    connection.close()
        if response == "timeout" and connection is not None:
            outcome, times = "timeout", self._so_far(connection.response)
        else:
            outcome, times = self._judge(body, response, ended)
        return Sample(
            outcome=outcome,
            started=begun,
            first_token=times[0] - begun if times else _NEVER,
            total=ended - begun,
            late=begun - due,
            gaps=[after - before for before, after in pairwise(times)],
        )

    def close(self) -> None:
        """Hang up the kept connections."""
        while self._idle:
            self._idle.pop().close()

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:  # a server may hang up on an idle one
                return connection
        return None

    def _body(self, tokens: int) -> dict[str, Any]:
        self._count += 1
        plan = self._plan
        text = f"{plan.seed}-{self._part}-{self._count} ".ljust(plan.prompt_bytes, "x")
        return {
            "model": plan.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": tokens,
            "stream": plan.stream,
        }

    def _so_far(self, response: Response) -> list[float]:
        """The moments of the tokens of a response that is not complete."""
        try:
            return answers.streamed(response.pieces).times if self._plan.stream else []
        except msgspec.DecodeError:
            return []

    def _judge(
        self, body: dict[str, Any], response: Response | str, ended: float
    ) -> tuple[str, list[float]]:
        if isinstance(response, str):
            return response, []
        if response.status != 200:
            return f"status {response.status}", []
        try:
            if self._plan.stream:
                answer = answers.streamed(response.pieces)
            else:
                answer = answers.whole(response.body, ended)
        except msgspec.DecodeError:
            return "unreadable", []
        if answer.error:
            return f"error {answer.error}", answer.times
        if not answer.complete:
            return "incomplete", answer.times
        if self._plan.verify and answer.text != expected_text(body, body["max_tokens"]):
            return "wrong text", answer.times
        return "ok", answer.times
