"""The endpoints that ask a model for something: rows of one table, served by one class."""

import asyncio
import re
import time
from contextlib import suppress
from typing import Final

import msgspec
from starlette.types import Receive, Scope, Send

from headrace.edge import wait_policy
from headrace.edge.api import errors
from headrace.edge.api.connection import CONNECTION
from headrace.edge.api.http import (
    header,
    read_body,
    request_id,
    respond,
    respond_error,
    start,
)
from headrace.edge.api.queue_status import headers, keepalive, next_position
from headrace.edge.api.validation import ParsedBody, admit, require_json
from headrace.edge.auth.api_keys import KeyRing, Principal
from headrace.edge.dispatch.dispatcher import Dispatcher
from headrace.edge.dispatch.request import LiveRequest
from headrace.edge.dispatch.response_assembler import RequestPhase, ResponseAssembler
from headrace.edge.limits.admission import AdmissionControl, AdmissionReceipt
from headrace.edge.limits.budget import Bill
from headrace.edge.metrics import EdgeMetrics
from headrace.edge.models.registry import ModelRegistry, RegisteredModel, not_found
from headrace.edge.options import EdgeOptions
from headrace.external.cost_bound import bound
from headrace.protocol.endpoints import Endpoint, Headers
from headrace.protocol.errors import Code, HeadraceError
from headrace.runtime.logging import Logger


class InferenceRoute(msgspec.Struct, frozen=True):
    """One endpoint: where it is served and what it asks the engine for."""

    path: str
    endpoint: Endpoint


ROWS: Final = (
    InferenceRoute("/v1/chat/completions", Endpoint.CHAT),
    InferenceRoute("/v1/completions", Endpoint.COMPLETIONS),
    InferenceRoute("/v1/embeddings", Endpoint.EMBEDDINGS),
)
"""Every endpoint that asks a model for something. The next one is one more row."""

CLIENT_LEFT: Final = 499
"""nginx's status for it: nobody is there to see it but the log."""

END_SECONDS: Final = 2.0
"""The end of an answer follows its last bytes at once. Who has those, and leaves, is kept for it so
long: by then it is lost, or its worker is."""

WAIT_HEADER: Final = wait_policy.HEADER.encode()

_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_STREAM_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx must not hold tokens back
]


class Inference:
    """One row of the table as an ASGI app."""

    def __init__(
        self,
        row: InferenceRoute,
        *,
        keys: KeyRing,
        models: ModelRegistry,
        dispatcher: Dispatcher,
        options: EdgeOptions,
        turnstile: AdmissionControl,
        metrics: EdgeMetrics,
        log: Logger,
    ) -> None:
        self._row = row
        self._turnstile = turnstile
        self._keys = keys
        self._models = models
        self._dispatcher = dispatcher
        self._options = options
        self._metrics = metrics
        self._log = log
        self._time = asyncio.get_running_loop().time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        model: RegisteredModel | None = None
        admission: AdmissionReceipt | None = None
        tenant = ""
        try:
            principal = await self._keys.admit(scope)
            tenant = principal.tenant
            require_json(header(scope, b"content-type"))
            options = self._options
            body = await read_body(scope, receive, options.max_body_bytes, options.body_seconds)
            asked = admit(self._row.endpoint, body)
            model = self._find(asked.model, principal)
            bill = None
            if model.external is not None:
                body, most = bound(model.external, self._row.endpoint, body)
                bill = Bill(model.external, most)
            admission = await self._turnstile.enter(
                request_id(scope), principal, model.access, self._row.endpoint, bill
            )
            request = self._admit(scope, principal, asked, model, body=body, admission=admission)
        except HeadraceError as error:
            self._turnstile.turned_away(admission)
            self._metrics.refused.labels(error.code).inc()
            lane = self._dispatcher.lane(tenant)
            await respond_error(send, error, self._told(error, model, lane))
            return
        connection = scope.get(CONNECTION)
        if connection is None:  # another server than ours
            watcher = asyncio.create_task(_watch_client(request, receive))
            try:
                await self._serve(request, model, send)
            finally:
                watcher.cancel()
            return
        connection.on_left = request.leave
        if connection.transport.is_closing():
            request.leave()
        try:
            await self._serve(request, model, send)
        finally:
            connection.on_left = None

    def _find(self, name: str, principal: Principal) -> RegisteredModel:
        """The model, if the client may use it: for others it is not there."""
        endpoint = self._row.endpoint
        model = self._models.find(name, self._time())
        if not self._turnstile.check(principal, model.access, endpoint):
            raise not_found(name)
        return self._models.serving(model, endpoint)

    def _admit(
        self,
        scope: Scope,
        principal: Principal,
        asked: ParsedBody,
        model: RegisteredModel,
        *,
        body: bytes,
        admission: AdmissionReceipt | None,
    ) -> LiveRequest:
        if not self._dispatcher.ready:
            raise HeadraceError(
                Code.UNAVAILABLE, "The request queue cannot be reached right now.", retry_after=2
            )
        trace = header(scope, b"traceparent") or b""
        live = self._dispatcher.live
        options = self._options
        request = LiveRequest(
            id=request_id(scope),
            endpoint=self._row.endpoint,
            model=model.slug,
            stream=asked.stream,
            body=body,
            tenant=principal.tenant,
            lane=self._dispatcher.lane(principal.tenant),
            trace=trace.decode() if _TRACEPARENT.fullmatch(trace) else "",
            now=self._time(),
            wall=time.time(),
            deadline_seconds=options.deadline_seconds,
            max_buffered=options.max_buffered_bytes if asked.stream else options.max_answer_bytes,
            patience=wait_policy.asked(header(scope, WAIT_HEADER), principal.patience),
            keepalive=principal.keepalive,
            external=model.external is not None,
            receipt=admission,
            extra_headers=admission.headers if admission is not None else None,
        )
        live.add(request)
        return request

    async def _serve(self, request: LiveRequest, model: RegisteredModel, send: Send) -> None:
        status = 500
        try:
            try:
                await self._turn_away(request, model)
                await self._dispatcher.submit(request, model)
            except HeadraceError as error:
                request.answer.fail(error.code, error.message, retry_after=error.retry_after)
            status = await (self._stream if request.stream else self._whole)(request, model, send)
        except asyncio.CancelledError:
            if request.answer.error is None:
                raise
            # Cut off while it waited for its client: what is half sent is closed by the server.
            status = request.answer.error.status
        finally:
            if request.left:
                request.answer.fail(Code.CANCELLED, "The client left.")
            self._dispatcher.finish(request)
            self._account(request, status)

    async def _turn_away(self, request: LiveRequest, model: RegisteredModel) -> None:
        """Raise HeadraceError where the client need not, or does not want to, wait for `model`."""
        now = self._time()
        if model.ready(now):
            return
        standing = model.standing(now)
        code = wait_policy.refusal(request.patience, standing)
        if code is None:
            return
        queues = self._dispatcher.queues
        await queues.look([model.slug])
        self._dispatcher.wake_scaler(model.slug, turned_away=True)
        place = next_position(queues.last(model.slug), request.lane)
        raise HeadraceError(
            code,
            wait_policy.sentence(code, model.name, standing, request.patience),
            retry_after=wait_policy.retry_after(standing.wait(place or 1)),
        )

    def _told(self, error: HeadraceError, model: RegisteredModel | None, lane: str) -> Headers:
        """Where the model stands, for one who is to come again."""
        if model is None or error.status not in (429, 503):
            return []
        place = next_position(self._dispatcher.queues.last(model.slug), lane)
        return headers(model.standing(self._time()), place)

    async def _whole(self, request: LiveRequest, model: RegisteredModel, send: Send) -> int:
        """Wait for the whole answer, then send it. Returns the HTTP status."""
        while not request.over:
            await request.changed()
        answer = request.answer
        body = answer.take()
        if body and not request.first_byte:
            request.first_byte = self._time()
        if request.left:
            return CLIENT_LEFT
        if answer.error is not None:
            told = self._told(answer.error, model, request.lane) + request.extra_headers
            await respond_error(send, answer.error, told)
            return answer.error.status
        status = answer.status
        if status >= 400:
            status, body = errors.engine_error(status, body)
        told = [(b"content-type", b"application/json"), *request.extra_headers]
        await respond(send, status, body, told)
        return status

    async def _stream(self, request: LiveRequest, model: RegisteredModel, send: Send) -> int:
        """Send the answer as it comes. Returns the HTTP status."""
        answer = request.answer
        # An answer that is there soon decides the status; after that 200 is sent and comments
        # keep the connection alive.
        while request.held and not request.over and not 200 <= answer.status < 400:
            await request.changed()
        if request.held and (request.left or answer.error is not None or answer.status >= 400):
            return await self._whole(request, model, send)
        told = _STREAM_HEADERS + request.extra_headers
        if not request.held and answer.phase is RequestPhase.QUEUED:
            told = told + headers(model.standing(self._time()), request.position)
        request.held = False
        part = self._next_part(request, model)
        followed = bool(part) or answer.phase is RequestPhase.ENDED
        await send(start(200, told, followed=followed))
        part += self._next_part(request, model)  # what has come while it was sent
        request.task = asyncio.current_task()
        while not request.left:
            if answer.phase is RequestPhase.ENDED:
                # The last bytes and the end go out in one.
                last = part + _last_event(answer)
                await send({"type": "http.response.body", "body": last, "more_body": False})
                return 200
            if part:
                await send({"type": "http.response.body", "body": part, "more_body": True})
                self._dispatcher.taken(request)
            elif not await request.changed():
                return await self._left(request)
            part = self._next_part(request, model)
        return CLIENT_LEFT  # while something was on its way to it

    async def _left(self, request: LiveRequest) -> int:
        """The client of a stream has left, and nothing was on its way to it. Returns the status.

        Many leave as soon as they have read `[DONE]`: they have all of the answer, and its end,
        which tells the usage, may come in another message.
        """
        answer = request.answer
        if not answer.complete:
            return CLIENT_LEFT
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                while answer.phase is RequestPhase.RUNNING:
                    await request.changed()
        return 200 if answer.phase is RequestPhase.ENDED and answer.error is None else CLIENT_LEFT

    def _next_part(self, request: LiveRequest, model: RegisteredModel) -> bytes:
        """What the client of a stream gets next: the engine's bytes, or a comment, or nothing."""
        answer = request.answer
        if answer.status < 400:
            data = answer.take()
            if data:
                if not request.first_byte:
                    request.first_byte = self._time()
                return data
        if request.comment and answer.phase is not RequestPhase.ENDED:
            request.comment = False
            request.commented = self._time()
            return keepalive(request, model, request.commented)
        return b""

    def _account(self, request: LiveRequest, status: int) -> None:
        now = self._time()
        answer = request.answer
        outcome = answer.error.code.value if answer.error is not None else "ok"
        if outcome == "ok" and answer.status >= 400:
            outcome = "engine_refused"
        self._metrics.ended(request, outcome, now)
        self._turnstile.leave(request, status, outcome, now)
        self._log.info(
            "finished",
            request=request.id,
            model=request.model,
            endpoint=request.endpoint.value,
            tenant=request.tenant,
            worker=answer.worker,
            cluster=answer.cluster,
            attempt=answer.attempt,
            outcome=outcome,
            status=status,
            seconds=round(now - request.arrived, 4),
            first_byte=round(request.first_byte - request.arrived, 4)
            if request.first_byte
            else None,
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
        )


def _last_event(answer: ResponseAssembler) -> bytes:
    """What ends a stream: nothing where the engine has ended it, or the event of an error."""
    if answer.error is not None:
        return errors.event_of(errors.body_of(answer.error))
    if answer.status >= 400:
        return errors.event_of(errors.engine_error(answer.status, answer.take())[1])
    return b""


async def _watch_client(request: LiveRequest, receive: Receive) -> None:
    """Notice that the client leaves, while it waits and while it streams."""
    while (await receive())["type"] != "http.disconnect":
        pass
    request.leave()
