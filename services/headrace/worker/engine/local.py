"""The engine beside the worker: a process of its own, asked over a Unix socket."""

import os
from typing import Final

from headrace.protocol.endpoints import ENGINE_PATHS
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.requests import Request
from headrace.runtime.engine import EngineKind, ResumeMode
from headrace.runtime.lifecycle import FatalError
from headrace.worker.engine import health
from headrace.worker.engine.launch import launch
from headrace.worker.engine.process import EngineProcess, make_run_dir
from headrace.worker.http_client import EngineClient
from headrace.worker.options import WorkerOptions
from headrace.worker.resume import request_body
from headrace.worker.resume.planner import EngineCall, ResumePlanner
from headrace.worker.stream import sse
from headrace.worker.stream.engine_stream import ENGINE_FAILED

HANGS: Final = "the engine hangs: it no longer answers its health check"


class LocalEngine:
    """The `Backend` of a compute node."""

    takes = True
    trouble = ""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._process = EngineProcess(make_run_dir())
        self.client = EngineClient(self._process.socket)

    @property
    def kind(self) -> str:
        """As `Backend` says, like all here."""
        return self._options.engine.kind

    async def start(self) -> None:
        """Start the process."""
        options = self._options
        await self._process.start(
            launch(
                options.engine,
                name=options.model_name,
                slots=options.slots,
                socket=self._process.socket,
                run_dir=self._process.run_dir,
                environ=os.environ,
            )
        )

    async def died(self) -> str:
        """Wait for the process's end."""
        return await self._process.wait()

    async def ready(self) -> str:
        """Wait until it has answered one real request."""
        engine = self._options.engine
        try:
            endpoint = await health.until_ready(self.client, engine, self._options.model_name)
        except TimeoutError:
            told = f"the engine did not serve within {engine.start_seconds:g} s"
            raise FatalError(told) from None
        except health.EngineRefusedError as error:
            told = f"the engine is healthy but answers no request (HTTP {error})"
            raise FatalError(told) from None
        self._process.loaded()
        return endpoint

    async def lost(self) -> str:
        """Wait until it hangs."""
        await health.until_hung(self.client, self._options.engine)
        return HANGS

    async def stop(self, *, graceful: bool) -> None:
        """Ask it to end, or kill it."""
        self.client.close()
        if graceful:
            await self._process.stop(self._options.engine.stop_seconds)
        else:
            await self._process.kill()

    async def plan(self, request: Request, delivered: int) -> EngineCall:  # noqa: ARG002  # may be begun anew
        """The client's body with the model's name, or what continues another worker's answer."""
        engine = self._options.engine
        made = request_body.rewrite(
            request.body,
            name=self._options.model_name,
            endpoint=request.endpoint,
            stream=request.stream,
            ids=engine.way is ResumeMode.TOKENS,
            timings=engine.kind is EngineKind.LLAMACPP,
        )
        if request.stream and request.partial is not None:
            return await ResumePlanner(self.client, engine, request, request.partial, made).plan()
        reader = sse.UsageReader(keep=made.wants_usage)
        return EngineCall(ENGINE_PATHS[request.endpoint], made.data, reader, made.ids, made.timings)

    def judged(
        self,
        status: int,  # noqa: ARG002
        answer: bytearray,
        retry_after: str,  # noqa: ARG002
    ) -> bytearray:
        """Whatever it answers is for the edge to judge."""
        return answer

    def broken(self, error: OSError) -> HeadraceError:  # noqa: ARG002  # the client hears no more
        """Another worker may do better."""
        return HeadraceError(Code.ENGINE_FAILED, ENGINE_FAILED, retryable=True)
