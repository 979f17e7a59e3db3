"""What the simulated engine answers: a pure function of the request.

The n-th token of an answer is a word that depends on the request's prompt and on n, so whoever
knows the request can say which tokens are lost, doubled or out of order. The engine writes with
these functions, and the tests and the generator read with them.

A prompt can also be given as token ids, and an answer can be continued from a partial one, as
with vLLM: with the ids of the prompt and of the tokens so far (`prompt` of ``/v1/completions``),
or with the text so far as the last message and ``continue_final_message``.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

_FIRST: Final = [consonant + vowel for consonant in "bdkl" for vowel in "aeio"]
# One vowel is not ASCII: whoever cuts a stream in the middle of a character is found out.
_SECOND: Final = [consonant + vowel for consonant in "mnrs" for vowel in "aeiü"]

WORDS: Final[tuple[str, ...]] = tuple(first + second for first in _FIRST for second in _SECOND)
"""The vocabulary: 256 words, so that one byte of a digest picks one."""

_BLOCK: Final = 64
_SEED_BYTES: Final = 16
_SEED_IDS: Final = 256
_WORD_IDS: Final = 512

_canonical: Final = msgspec.json.Encoder(order="deterministic")


class Prompt(msgspec.Struct, frozen=True):
    """What an answer depends on: a digest, and the length in tokens of prompt and text sent."""

    seed: bytes
    tokens: int
    sent: int = 0

    @property
    def ids(self) -> list[int]:
        """Token ids that stand for this prompt, `tokens` of them; those of the text sent last."""
        sent = token_ids(indices(Prompt(self.seed, 0), self.sent))
        asked = [_SEED_IDS + byte for byte in self.seed]
        return asked + [0] * (self.tokens - _SEED_BYTES - self.sent) + sent


def prompt_of(body: Mapping[str, Any]) -> Prompt:
    """The prompt in a request's JSON body. Raises KeyError where there is none."""
    if "messages" in body:
        messages = body["messages"]
        if body.get("continue_final_message"):
            return _prompt(messages[:-1], sent=len(messages[-1]["content"].split()))
        return _prompt(messages)
    prompt = body["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        (prompt,) = prompt
    if isinstance(prompt, list) and prompt and all(isinstance(each, int) for each in prompt):
        seed = prompt[:_SEED_BYTES]
        if len(seed) == _SEED_BYTES and all(_SEED_IDS <= each < _WORD_IDS for each in seed):
            sent = sum(each >= _WORD_IDS for each in prompt)
            return Prompt(bytes(each - _SEED_IDS for each in seed), len(prompt), sent)
    return _prompt(prompt)


def _prompt(content: Any, sent: int = 0) -> Prompt:
    text = _canonical.encode(content)
    seed = blake2b(text, digest_size=_SEED_BYTES).digest()
    # About four characters to a token; never fewer than the seed's ids.
    return Prompt(seed, max(_SEED_BYTES, len(text) // 4) + sent, sent)


def indices(prompt: Prompt, count: int) -> bytes:
    """The next `count` tokens of the answer to `prompt`, as indices into `WORDS`."""
    first, last = prompt.sent // _BLOCK, (prompt.sent + count) // _BLOCK
    digests = b"".join(
        blake2b(prompt.seed + block.to_bytes(4, "big"), digest_size=_BLOCK).digest()
        for block in range(first, last + 1)
    )
    start = prompt.sent - first * _BLOCK
    return digests[start : start + count]


def token_ids(picked: bytes) -> list[int]:
    """The token ids of what `indices` gave."""
    return [token_id(index) for index in picked]


def token_id(index: int) -> int:
    """The id of a word, from 512 to 767."""
    return _WORD_IDS + index


def text_of_ids(ids: Sequence[int]) -> str:
    """The text of token ids: those of a prompt have none."""
    return text_of(bytes(each - _WORD_IDS for each in ids if each >= _WORD_IDS))


def text_of(picked: bytes, sent: int = 0) -> str:
    """The text of what `indices` gave, when `sent` tokens went before it."""
    return (" " if sent and picked else "") + " ".join([WORDS[index] for index in picked])


def expected_text(body: Mapping[str, Any], n: int) -> str:
    """The text of the first `n` tokens of the answer to the request with this JSON body."""
    prompt = prompt_of(body)
    return text_of(indices(prompt, n), prompt.sent)


def expected_vector(text: str | Sequence[int], dimensions: int) -> list[float]:
    """The embedding of one input: `dimensions` multiples of 1/128 in [-1, 1), exact in 32 bits."""
    prompt = _prompt(text)
    return [(byte - 128) / 128 for byte in indices(prompt, dimensions)]
