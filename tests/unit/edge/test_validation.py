"""What the edge lets in, and how it says no."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.edge.api import errors
from headrace.edge.api.validation import MANY_IN_FLIGHT, admit, lane_of, require_json
from headrace.edge.auth.api_keys import KeyRing
from headrace.edge.options import EdgeOptions, KeyOptions, ModelOptions
from headrace.gateway.policy import api_keys
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.names import LANES

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def body(**changes: Any) -> bytes:
    return json.dumps(CHAT | changes).encode()


def refusal(data: bytes, endpoint: Endpoint = Endpoint.CHAT) -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        admit(endpoint, data)
    return caught.value


def test_a_chat_request() -> None:
    assert not admit(Endpoint.CHAT, body()).stream
    assert admit(Endpoint.CHAT, body(stream=True)).stream
    assert not admit(Endpoint.CHAT, body(stream=None)).stream
    assert admit(Endpoint.CHAT, body(temperature=0, tools=[], anything={"else": 1})).model == "m"


@pytest.mark.parametrize(
    ("data", "code", "param"),
    [
        (b"", Code.INVALID_JSON, None),
        (b"{", Code.INVALID_JSON, None),
        (b"\xff\xfe", Code.INVALID_JSON, None),
        (b'{"model": "m", "messages": [1,]}', Code.INVALID_JSON, None),
        (b'{"model":"m","messages":' + b"[" * 100_000, Code.INVALID_JSON, None),
        (b"[]", Code.UNPROCESSABLE, None),
        (b"{}", Code.UNPROCESSABLE, "model"),
        (b'{"model": 3}', Code.UNPROCESSABLE, "model"),
        (b'{"model": "m"}', Code.UNPROCESSABLE, "messages"),
        (body(messages=[]), Code.UNPROCESSABLE, "messages"),
        (body(messages="hi"), Code.UNPROCESSABLE, "messages"),
        (body(model=""), Code.UNPROCESSABLE, "model"),
        (body(model="m" * 201), Code.UNPROCESSABLE, "model"),
        (body(stream="yes"), Code.UNPROCESSABLE, "stream"),
    ],
)
def test_bodies_that_are_refused(data: bytes, code: Code, param: str | None) -> None:
    error = refusal(data)
    assert (error.code, error.param) == (code, param)


def test_a_refusal_never_quotes_the_body() -> None:
    for data in (body(messages="SECRET"), body(stream="SECRET"), b'{"SECRET": '):
        assert "SECRET" not in refusal(data).message


def test_other_endpoints_ask_for_their_own_fields() -> None:
    assert admit(Endpoint.COMPLETIONS, b'{"model":"m","prompt":[1,2],"stream":true}').stream
    assert refusal(b'{"model":"m"}', Endpoint.COMPLETIONS).param == "prompt"
    assert not admit(Endpoint.EMBEDDINGS, b'{"model":"m","input":"x","stream":true}').stream
    assert refusal(b'{"model":"m"}', Endpoint.EMBEDDINGS).param == "input"


@given(st.binary(max_size=200))
def test_any_bytes_are_admitted_or_refused_with_a_client_error(data: bytes) -> None:
    for endpoint in Endpoint:
        error: HeadraceError | None = None
        try:
            admit(endpoint, data)
        except HeadraceError as caught:
            error = caught
        assert error is None or 400 <= error.status < 500


@pytest.mark.parametrize("good", [None, b"application/json", b"Application/JSON; charset=utf-8"])
def test_json_by_its_media_type(good: bytes | None) -> None:
    require_json(good)


@pytest.mark.parametrize("bad", [b"", b"text/plain", b"application/x-www-form-urlencoded"])
def test_other_media_types_are_refused(bad: bytes) -> None:
    with pytest.raises(HeadraceError, match="unsupported_media_type"):
        require_json(bad)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_lighter_tenant_never_gets_the_lower_lane(few: int, many: int) -> None:
    few, many = sorted((few, many))
    assert LANES.index(lane_of(few)) <= LANES.index(lane_of(many))


@given(st.integers(1, 256), st.integers(0, 100))
def test_what_is_many_is_divided_by_the_edges_and_what_is_few_is_not(
    edges: int, in_flight: int
) -> None:
    assert (lane_of(in_flight, edges) == "high") == (lane_of(in_flight) == "high")
    normal = sum(lane_of(number, edges) == "normal" for number in range(MANY_IN_FLIGHT))
    assert normal * edges < MANY_IN_FLIGHT


SECRET = b"s" * 32
KEY = api_keys.mint()
RING = KeyRing(SECRET, [KeyOptions("ada", api_keys.digest(SECRET, KEY))])


def test_a_right_key_opens_and_hides_its_name() -> None:
    for scheme in (b"Bearer ", b"bearer "):
        principal = RING.authenticate([(b"authorization", scheme + KEY.encode())])
        assert principal.key_id == "ada"
        assert "ada" not in principal.tenant


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", KEY.encode())],
        [(b"authorization", b"Basic " + KEY.encode())],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer " + KEY[:-1].encode())],
        [(b"authorization", b"Bearer " + api_keys.mint().encode())],
        [(b"authorization", b"Bearer " + KEY.encode() + b" x")],
        [(b"authorization", b"Bearer " + KEY.encode() + b" " * 1000)],
        [(b"authorization", b"Bearer " + KEY.encode())] * 2,
        [(b"x-api-key", KEY.encode())],
    ],
)
def test_anything_else_stays_outside(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(HeadraceError, match="invalid_api_key"):
        RING.authenticate(headers)


@given(st.binary(max_size=80))
def test_no_header_crashes_the_lock(value: bytes) -> None:
    with pytest.raises(HeadraceError, match="invalid_api_key"):
        RING.authenticate([(b"authorization", b"Bearer " + value)])


def told(status: int, data: bytes) -> tuple[int, dict[str, Any]]:
    status, out = errors.engine_error(status, data)
    error = json.loads(out)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return status, error


def test_a_refusal_of_the_engine_keeps_its_status_and_message() -> None:
    vllm = b'{"error":{"message":"too long","type":"BadRequestError","param":null,"code":400}}'
    assert told(400, vllm) == (
        400,
        {
            "message": "too long",
            "type": "BadRequestError",
            "param": None,
            "code": "invalid_request",
        },
    )


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_failure_of_the_engine_hides_the_inside(status: int) -> None:
    code, error = told(status, b'{"error":{"message":"/scratch/models/secret.bin not found"}}')
    assert code == 502
    assert "secret" not in error["message"]


@given(st.binary(max_size=100), st.integers(400, 599))
def test_any_error_of_an_engine_becomes_an_error_object(data: bytes, status: int) -> None:
    told(status, data)


def test_headers_tell_clients_whether_to_try_again() -> None:
    full = errors.headers_of(HeadraceError(Code.QUEUE_FULL, "full", retry_after=600))
    assert (b"retry-after", b"120") in full
    wrong = errors.headers_of(HeadraceError(Code.INVALID_API_KEY, "no"))
    assert (b"x-should-retry", b"false") in wrong


@pytest.mark.parametrize(
    "table",
    [
        {"max_body_bytes": 8 * 1024 * 1024},
        {"deadline_seconds": 0},
        {"deadline_seconds": 1e9},
        {"processes": 0},
        {"models": [{"name": "A"}, {"name": "a"}]},
        {"models": [{"name": "!!!"}]},
        {"models": [{"name": "x", "slug": "a.>"}]},
        {"models": [{"name": "x\ny"}]},
        {"keys": [{"id": "a", "digest": "1"}, {"id": "a", "digest": "2"}]},
        {"prot": 8080},
    ],
)
def test_bad_options_are_refused(table: dict[str, Any]) -> None:
    msgspec.convert({"secret_file": "x"}, EdgeOptions)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"secret_file": "x"} | table, EdgeOptions)


def test_a_model_without_a_slug_gets_one() -> None:
    assert ModelOptions(name="Qwen/Qwen3-8B").queue == "qwen-qwen3-8b"
