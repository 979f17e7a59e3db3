"""What can go wrong with a request: a code for the client, a sentence for the person, no more.

The codes are part of the API: clients branch on them. Each has the HTTP status and the ``type``
of OpenAI's error object that goes with it, and says whether the same request may succeed later.
"""

from enum import StrEnum
from typing import Final

import msgspec


class Code(StrEnum):
    """The ``code`` of an error object."""

    INVALID_JSON = "invalid_json"
    INVALID_REQUEST = "invalid_request"
    UNPROCESSABLE = "unprocessable_request"
    INVALID_API_KEY = "invalid_api_key"
    MODEL_NOT_FOUND = "model_not_found"
    ENDPOINT_NOT_SERVED = "endpoint_not_served"
    UNKNOWN_URL = "unknown_url"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    REQUEST_TOO_LARGE = "request_too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    PERMISSION_DENIED = "permission_denied"
    NOT_FOUND = "not_found"
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    INSUFFICIENT_QUOTA = "insufficient_quota"
    QUEUE_FULL = "queue_full"
    OVERLOADED = "overloaded"
    MODEL_NOT_READY = "model_not_ready"
    MODEL_FAILED = "model_failed"
    MODEL_REMOVED = "model_removed"
    WAIT_EXCEEDED = "wait_exceeded"
    UNAVAILABLE = "service_unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    WORKER_LOST = "worker_lost"
    WORKER_DRAINED = "worker_drained"
    GIVEN_UP = "given_up"
    NOT_CONTINUED = "not_continued"
    ENGINE_FAILED = "engine_failed"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    PROVIDER_REFUSED = "provider_refused"
    RESPONSE_TOO_LARGE = "response_too_large"
    SLOW_READER = "slow_reader"
    UNSUPPORTED_VERSION = "unsupported_version"
    BAD_MESSAGE = "bad_message"
    INTERNAL = "internal_error"


class ErrorKind(msgspec.Struct, frozen=True):
    """How a code is told over HTTP."""

    status: int
    type: str
    retryable: bool


_CLIENT: Final = "invalid_request_error"
_SERVER: Final = "server_error"

KINDS: Final[dict[Code, ErrorKind]] = {
    Code.INVALID_JSON: ErrorKind(400, _CLIENT, False),
    Code.INVALID_REQUEST: ErrorKind(400, _CLIENT, False),
    Code.UNPROCESSABLE: ErrorKind(422, _CLIENT, False),
    Code.INVALID_API_KEY: ErrorKind(401, "authentication_error", False),
    Code.MODEL_NOT_FOUND: ErrorKind(404, _CLIENT, False),
    Code.ENDPOINT_NOT_SERVED: ErrorKind(400, _CLIENT, False),
    Code.UNKNOWN_URL: ErrorKind(404, _CLIENT, False),
    Code.METHOD_NOT_ALLOWED: ErrorKind(405, _CLIENT, False),
    Code.REQUEST_TIMEOUT: ErrorKind(408, _CLIENT, True),
    Code.REQUEST_TOO_LARGE: ErrorKind(413, _CLIENT, False),
    Code.HEADERS_TOO_LARGE: ErrorKind(431, _CLIENT, False),
    Code.UNSUPPORTED_MEDIA_TYPE: ErrorKind(415, _CLIENT, False),
    Code.PERMISSION_DENIED: ErrorKind(403, "permission_error", False),
    Code.NOT_FOUND: ErrorKind(404, _CLIENT, False),
    Code.RATE_LIMIT_EXCEEDED: ErrorKind(429, "rate_limit_error", True),
    # A budget of a day or a month: waiting a little does not help.
    Code.INSUFFICIENT_QUOTA: ErrorKind(429, "insufficient_quota", False),
    Code.QUEUE_FULL: ErrorKind(429, "rate_limit_error", True),
    Code.OVERLOADED: ErrorKind(503, _SERVER, True),
    Code.MODEL_NOT_READY: ErrorKind(503, _SERVER, True),
    # It stays so until an operator has looked at it, or a back-off of minutes is over.
    Code.MODEL_FAILED: ErrorKind(503, _SERVER, False),
    Code.MODEL_REMOVED: ErrorKind(410, _CLIENT, False),
    Code.WAIT_EXCEEDED: ErrorKind(503, _SERVER, True),
    Code.UNAVAILABLE: ErrorKind(503, _SERVER, True),
    Code.DEADLINE_EXCEEDED: ErrorKind(504, "timeout_error", True),
    # 499 is nginx's "client closed request": never seen by a client, but by logs and metrics.
    Code.CANCELLED: ErrorKind(499, _CLIENT, False),
    Code.WORKER_LOST: ErrorKind(502, _SERVER, True),
    Code.WORKER_DRAINED: ErrorKind(503, _SERVER, True),
    # It was with several workers that were lost: it may be what kills them.
    Code.GIVEN_UP: ErrorKind(502, _SERVER, False),
    # A stream whose worker was lost, and which no other one can continue without a seam.
    Code.NOT_CONTINUED: ErrorKind(502, _SERVER, True),
    Code.ENGINE_FAILED: ErrorKind(502, _SERVER, True),
    # An external model: its provider is away or wants us to slow down. Nothing was worked on.
    Code.PROVIDER_UNAVAILABLE: ErrorKind(503, _SERVER, True),
    # It does not take our key, or does not know the model: the site's business, not the client's.
    Code.PROVIDER_REFUSED: ErrorKind(502, _SERVER, False),
    Code.RESPONSE_TOO_LARGE: ErrorKind(502, _SERVER, False),
    Code.SLOW_READER: ErrorKind(408, _CLIENT, False),
    Code.UNSUPPORTED_VERSION: ErrorKind(502, _SERVER, False),
    Code.BAD_MESSAGE: ErrorKind(502, _SERVER, False),
    Code.INTERNAL: ErrorKind(500, _SERVER, True),
}


class HeadraceError(Exception):
    """A failure with a `code` for the client and a sentence that a person understands.

    The `message` reaches the client: it never holds a prompt, an answer, a path or a secret.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        param: str | None = None,
        retryable: bool | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.param = param
        self.retryable = KINDS[code].retryable if retryable is None else retryable
        self.retry_after = retry_after
        """Seconds after which to try again, or None where it makes no sense to say."""
        self.headers: list[tuple[bytes, bytes]] = []
        """More headers for the answer."""

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return KINDS[self.code].status

    @property
    def type(self) -> str:
        """The ``type`` of OpenAI's error object that goes with the code."""
        return KINDS[self.code].type
