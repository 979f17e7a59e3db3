"""An engine that does what a test tells it to in the request: ``{"odd": "..."}``."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


async def stream(request: web.Request, *pieces: bytes) -> web.StreamResponse:
    """Begin a stream and write the pieces, each on its own."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
        await asyncio.sleep(0)
    return response


async def no_end(request: web.Request, body: Any) -> web.StreamResponse:
    """A stream that ends as if all were well, but for its last event."""
    return await stream(request, EVENT % b"a", EVENT % b"b")


async def cut(request: web.Request, body: Any) -> web.StreamResponse:
    """A stream whose connection breaks in the middle of an event."""
    response = await stream(request, EVENT % b"a", b'data: {"cho')
    assert request.transport is not None
    request.transport.close()
    return response


async def torn(request: web.Request, body: Any) -> web.StreamResponse:
    """A good stream in single bytes, with line ends as Windows has them."""
    events = (EVENT % "ä€😀".encode() + DONE).replace(b"\n", b"\r\n")
    return await stream(request, *[events[i : i + 1] for i in range(len(events))])


async def lingers(request: web.Request, body: Any) -> web.StreamResponse:
    """A good stream of a slow model, whose response ends a while after its last event."""
    response = await stream(request)
    for piece in (*[EVENT % b"x"] * 5, DONE):
        await response.write(piece)
        await asyncio.sleep(0.05)
    await asyncio.sleep(2.5)
    return response


async def endless(request: web.Request, body: Any) -> web.StreamResponse:
    """A stream that goes on until somebody stops it."""
    response = await stream(request)
    while True:
        await response.write(EVENT % b"x")
        await asyncio.sleep(0.01)


async def large(request: web.Request, body: Any) -> web.StreamResponse:
    """So many bytes, whole or as one event."""
    text = b"x" * int(body["bytes"])
    if body.get("stream"):
        return await stream(request, EVENT % text, DONE)
    return web.Response(body=b'{"text":"%b"}' % text, content_type="application/json")


async def refuse(request: web.Request, body: Any) -> web.StreamResponse:
    """An engine's own error."""
    return web.json_response({"error": {"message": "too long", "code": 400}}, status=400)


async def echo(request: web.Request, body: Any) -> web.StreamResponse:
    """The body, and a line of log that quotes it, as a careless engine would."""
    sys.stderr.write(f"CUDA error? no, only a prompt: {json.dumps(body)}\n")
    sys.stderr.flush()
    return web.json_response(body)


async def slow(request: web.Request, body: Any) -> web.StreamResponse:
    """A whole answer that takes its time."""
    await asyncio.sleep(float(body["seconds"]))
    return web.json_response({"choices": []})


async def fine(request: web.Request, body: Any) -> web.StreamResponse:
    """A whole answer."""
    return web.json_response({"choices": [], "usage": {"prompt_tokens": 1}})


Act = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]
ACTS: dict[str, Act] = {
    act.__name__: act
    for act in (no_end, cut, torn, lingers, endless, large, refuse, echo, slow, fine)
}  # fmt: skip


async def answer(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    return await ACTS[body.get("odd", "fine")](request, body)


async def healthy(request: web.Request) -> web.Response:
    return web.Response()


def main() -> None:
    app = web.Application(client_max_size=1 << 24)
    app.router.add_get("/health", healthy)
    app.router.add_post("/v1/{tail:.*}", answer)
    web.run_app(app, path=sys.argv[1], print=None, handle_signals=True)


if __name__ == "__main__":
    main()
