"""How a stream that another worker has begun goes on here: what to ask the engine, and first what
the engine must be asked to know that."""

from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from headrace.protocol import resumable
from headrace.protocol.endpoints import ENGINE_PATHS, Endpoint
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Usage
from headrace.protocol.requests import Partial, Request
from headrace.runtime.engine import EngineKind, EngineOptions, ResumeMode
from headrace.worker.http_client import EngineClient, EngineError
from headrace.worker.resume import resume_body
from headrace.worker.resume.event_rewriter import EventRewriter, ending
from headrace.worker.resume.request_body import RequestBody
from headrace.worker.resume.resume_body import Fields
from headrace.worker.stream.engine_stream import EventReader
from headrace.worker.stream.token_ids import unpack

_object: Final = msgspec.json.Decoder(dict[str, Any])

HALF: Final = "\ufffd"
"""What a part of a character looks like as text."""

HALVES: Final = 8
"""So many tokens at the end may be parts of a character."""


class EngineCall(NamedTuple):
    """What to ask, and how to read the answer. Without a path nothing is asked: `said` is all."""

    path: str
    body: bytes
    reader: EventReader
    ids: bool = False
    timings: bool = False
    said: bytes = b""


def refuse(why: str) -> NoReturn:
    """Raise what tells the edge that this answer can't be continued, here or elsewhere."""
    raise HeadraceError(
        Code.NOT_CONTINUED, f"The answer can't be continued: {why}.", retryable=False
    )


def check_status(status: int) -> NoReturn:
    """Raise what an engine's answer other than a stream means in the middle of a stream."""
    if status >= 500:
        raise EngineError(f"the engine answered a continuation with {status}")
    refuse(f"the model's engine refused to (HTTP {status})")


class ResumePlanner:
    """Finds out how to go on after `partial`."""

    def __init__(
        self,
        client: EngineClient,
        options: EngineOptions,
        request: Request,
        partial: Partial,
        made: RequestBody,
    ) -> None:
        self._client = client
        self._options = options
        self._endpoint = request.endpoint
        self._partial = partial
        self._made = made

    async def plan(self) -> EngineCall:
        """The plan. Raises HeadraceError ``not_continued``, and OSError where the engine fails."""
        partial, made = self._partial, self._made
        if partial.finish:
            return await self._end()
        if not partial.text:
            reader = EventRewriter(partial, keep_usage=made.wants_usage)
            return EngineCall(
                ENGINE_PATHS[self._endpoint], made.data, reader, made.ids, made.timings
            )
        way = self._options.way
        if way is ResumeMode.NO:
            refuse("the model's engine has no way to")
        if name := resumable.obstacle(made.fields):
            refuse(f"the request asks for `{name}`")
        if partial.text.endswith(HALF):
            refuse("it was cut within a character")
        fields = self._with_default_limit(made.fields)
        if resume_body.spend(fields, partial.count) is None:
            return await self._end()
        if way is ResumeMode.TOKENS and (plan := await self._after_ids(fields)):
            return plan
        return await self._after_text(fields)

    def _with_default_limit(self, fields: Fields) -> Fields:
        if (
            self._options.kind is EngineKind.VLLM
            and self._endpoint is Endpoint.COMPLETIONS
            and not resume_body.limited(fields)
        ):
            return fields | {"max_tokens": resume_body.raw(resume_body.VLLM_COMPLETION_TOKENS)}
        return fields

    async def _end(self) -> EngineCall:
        """All tokens have been sent."""
        usage = Usage(await self._prompt_tokens(), self._partial.count)
        keep = self._made.wants_usage
        reader = EventRewriter(
            self._partial, keep_usage=keep, count=usage.completion_tokens,
            prompt_tokens=usage.prompt_tokens,
        )  # fmt: skip
        model = str(resumable.value(self._made.fields["model"]))
        tell = keep and not self._partial.told
        said = ending(self._partial, self._endpoint, model, usage, keep_usage=tell)
        return EngineCall("", b"", reader, said=said)

    async def _after_text(self, fields: Fields) -> EngineCall:
        partial = self._partial
        less = resume_body.spend(fields, partial.count)
        prefills = self._options.kind is EngineKind.LLAMACPP
        asked = resume_body.after_text(less or fields, partial.text, prefills=prefills)
        if asked is None:
            refuse("its prompt is not text")
        reader = EventRewriter(
            partial, keep_usage=self._made.wants_usage, count=partial.count,
            prompt_tokens=await self._prompt_tokens(),
        )  # fmt: skip
        return EngineCall(
            ENGINE_PATHS[self._endpoint],
            msgspec.json.encode(asked),
            reader,
            timings=self._made.timings,
        )

    async def _after_ids(self, fields: Fields) -> EngineCall | None:
        partial = self._partial
        ids = unpack(partial.tokens)
        if not ids or len(ids) < partial.count or not resume_body.takes_ids(fields):
            return None
        whole = await self._whole_characters(ids)
        if whole is None:
            return None
        prompt = resume_body.prompt_ids(fields)
        context = 0
        if prompt is None:
            rendered = await self._ask("/tokenize", resume_body.rendering(fields))
            prompt, context = rendered["tokens"], rendered["max_model_len"]
        less = resume_body.spend(fields, len(whole))
        chat = self._endpoint is Endpoint.CHAT
        if less is None or (chat and len(prompt) + len(whole) >= context):
            return await self._end()
        asked = resume_body.after_ids(less, prompt + whole, context=context)
        reader = EventRewriter(
            partial, keep_usage=self._made.wants_usage, chat=chat, count=len(whole),
            prompt_tokens=len(prompt),
        )  # fmt: skip
        path = ENGINE_PATHS[Endpoint.COMPLETIONS]
        return EngineCall(path, msgspec.json.encode(asked), reader, ids=True)

    async def _whole_characters(self, ids: list[int]) -> list[int] | None:
        """The ids up to the end of the text; None where they are not those of the text.

        An engine may have told the ids of half a character before its text. After such a prompt
        vLLM would begin with the text of the whole prompt.
        """
        text = self._partial.text.lstrip(" ")  # a tokenizer may drop the first space
        for _ in range(HALVES):
            asked = {"model": self._made.fields["model"], "tokens": resume_body.raw(ids)}
            said = (await self._ask("/detokenize", asked))["prompt"]
            if said.endswith(text):
                return ids
            if not said.endswith(HALF):
                break
            ids = ids[:-1]
        return None

    async def _prompt_tokens(self) -> int:
        answer = await self._ask(ENGINE_PATHS[self._endpoint], resume_body.probe(self._made.fields))
        return int((answer.get("usage") or {}).get("prompt_tokens") or 0)

    async def _ask(self, path: str, fields: Fields) -> dict[str, Any]:
        status, data = await self._client.fetch(path, msgspec.json.encode(fields))
        if status != 200:
            check_status(status)
        try:
            return _object.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise EngineError("the engine's answer is no JSON object") from error
