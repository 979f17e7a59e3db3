"""The JSON that the simulated engine takes and gives, with vLLM's keys in vLLM's order."""

import base64
import secrets
import struct
import time
from typing import Any, Final

import msgspec

from loadtests.words import Prompt, expected_vector, prompt_of, text_of_ids

MAX_TOKENS: Final = 131_072
_FINGERPRINT: Final = "sim-0"
encode: Final = msgspec.json.encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class RequestError(Exception):
    """A body that is refused; `status` and `param` go into the error object."""

    def __init__(self, message: str, status: int = 400, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param

    @property
    def body(self) -> bytes:
        """The error as vLLM tells it."""
        return error_body(self.status, str(self), self.param)


def error_body(status: int, message: str, param: str | None = None) -> bytes:
    """An error object as vLLM writes it."""
    kind = {404: "NotFoundError", 400: "BadRequestError"}.get(status, "InternalServerError")
    return encode({"error": {"message": message, "type": kind, "param": param, "code": status}})


class Task(msgspec.Struct, frozen=True):
    """A request for text, checked."""

    chat: bool
    prompt: Prompt
    count: int
    finish: str
    stream: bool
    usage: bool
    ids: bool
    id: str
    created: int

    @property
    def usage_counts(self) -> dict[str, int]:
        """The usage object of a complete answer."""
        asked, made = self.prompt.tokens, self.count
        return {"prompt_tokens": asked, "total_tokens": asked + made, "completion_tokens": made}


def read(data: bytes, model: str) -> dict[str, Any]:
    """A request's JSON object for a served model. Raises RequestError."""
    try:
        body = _decode(data)
    except msgspec.DecodeError as error:
        raise RequestError(f"JSON decode error: {error}") from error
    if body.get("model", model) != model:
        raise RequestError(f"The model `{body['model']}` does not exist.", 404, "model")
    return body


def task(body: dict[str, Any], *, chat: bool, default_tokens: int) -> Task:
    """What a body asks for. Raises RequestError."""
    prompt = _prompt(body)
    limit = body.get("max_completion_tokens")
    if limit is None:
        limit = body.get("max_tokens")
    if limit == MAX_TOKENS - prompt.tokens:
        limit = None  # what the context holds is no limit of the client's
    # A model ends by itself at the same place, however much of its answer it is given.
    count = max(1, default_tokens - prompt.sent) if limit is None else limit
    if not isinstance(count, int) or not 1 <= count <= MAX_TOKENS:
        raise RequestError(f"max_tokens must be from 1 to {MAX_TOKENS}.", param="max_tokens")
    return Task(
        chat=chat,
        prompt=prompt,
        count=count,
        finish="stop" if limit is None else "length",
        stream=bool(body.get("stream")),
        usage=bool((body.get("stream_options") or {}).get("include_usage")),
        ids=bool(body.get("return_token_ids")),
        id=("chatcmpl-" if chat else "cmpl-") + secrets.token_hex(8),
        created=int(time.time()),
    )


def _prompt(body: dict[str, Any]) -> Prompt:
    try:
        return prompt_of(body)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise RequestError("There is no prompt that can be read.") from error


def tokenize(body: dict[str, Any]) -> bytes:
    """The token ids of a prompt. Raises RequestError."""
    ids = _prompt(body).ids
    answer = {"count": len(ids), "max_model_len": MAX_TOKENS, "tokens": ids, "token_strs": None}
    return encode(answer)


def detokenize(body: dict[str, Any]) -> bytes:
    """The text of token ids. Raises RequestError."""
    ids = body.get("tokens")
    if not isinstance(ids, list):
        raise RequestError("tokens must be a list of token ids.", param="tokens")
    return encode({"prompt": text_of_ids(ids)})


def whole(task: Task, model: str, text: str, ids: list[int]) -> bytes:
    """A complete answer."""
    made = ids if task.ids else None
    asked = task.prompt.ids if task.ids else None
    end = {"logprobs": None, "finish_reason": task.finish, "stop_reason": None, "token_ids": made}
    choice: dict[str, Any]
    if task.chat:
        message = {"role": "assistant", "content": text, "refusal": None, "reasoning": None}
        choice = {"index": 0, "message": message, **end}
    else:
        choice = {"index": 0, "text": text, **end, "prompt_token_ids": asked}
    answer: dict[str, Any] = {
        "id": task.id,
        "object": "chat.completion" if task.chat else "text_completion",
        "created": task.created,
        "model": model,
        "choices": [choice],
        "service_tier": None,
        "system_fingerprint": _FINGERPRINT,
        "usage": task.usage_counts,
    }
    if task.chat:
        answer["prompt_token_ids"] = asked
    return encode(answer)


def embeddings(body: dict[str, Any], model: str, dimensions: int) -> bytes:
    """The answer to a request for embeddings. Raises RequestError."""
    given = body.get("input")
    if not isinstance(given, str | list) or not given:
        raise RequestError("input must be text, token ids, or a list of them.", param="input")
    inputs = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    rows: list[dict[str, Any]] = []
    for index, each in enumerate(inputs):
        vector: list[float] | str = expected_vector(each, dimensions)
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
        rows.append({"index": index, "object": "embedding", "embedding": vector})
    asked = sum(max(1, len(each) // 4) for each in inputs)
    return encode(
        {
            "id": f"embd-{secrets.token_hex(8)}",
            "object": "list",
            "created": int(time.time()),
            "model": model,
            "data": rows,
            "usage": {"prompt_tokens": asked, "total_tokens": asked, "completion_tokens": 0},
        }
    )


def models(model: str) -> bytes:
    """The list of the one model."""
    now = int(time.time())
    row = {"id": model, "object": "model", "created": now, "owned_by": "sim", "root": model}
    return encode(
        {"object": "list", "data": [{**row, "parent": None, "max_model_len": MAX_TOKENS}]}
    )


def metrics(model: str, running: int, waiting: int, generated: int) -> bytes:
    """The page of metrics, with those of vLLM's names that others read."""
    labels = f'{{engine="0",model_name="{model}"}}'
    rows = [
        ("num_requests_running", "gauge", "Requests in the batch.", running),
        ("num_requests_waiting", "gauge", "Requests that wait for a slot.", waiting),
        ("generation_tokens_total", "counter", "Tokens generated.", generated),
    ]
    return "".join(
        f"# HELP vllm:{name} {text}\n# TYPE vllm:{name} {kind}\nvllm:{name}{labels} {value}.0\n"
        for name, kind, text, value in rows
    ).encode()
