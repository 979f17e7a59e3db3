"""`headrace status`, against services that are well, unwell, absent or something else."""

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main
from headrace.devcluster.loopback import free_port

MODELS = {
    "data": [{"id": "M", "headrace": {"state": "ready", "workers": 2, "slots": 16, "running": 3}}]
}
PAGES = {
    "/healthz": (200, {"status": "ok"}),
    "/readyz": (200, {"status": "ready"}),
    "/v1/models": (200, MODELS),
}


@contextlib.contextmanager
def service(pages: Mapping[str, tuple[int, object]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = pages.get(self.path, (404, {}))
            if self.path == "/v1/models" and self.headers["Authorization"] != "Bearer key":
                status, body = 401, {}
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def status(*arguments: str) -> Result:
    return CliRunner(env={"OPENAI_API_KEY": ""}).invoke(main, ["status", *arguments])


def test_a_service_that_is_well() -> None:
    with service(PAGES) as url:
        for given in (url, f"{url}/", f"{url}/v1"):
            result = status(given, "--key", "key")
            assert result.exit_code == 0
            assert f"{url} takes requests" in result.output
            assert "ready" in result.output
        found = json.loads(status(url, "--key", "key", "--json").output)
    assert found == {
        "url": url, "alive": True, "ready": True, "reason": "",
        "models": [{"id": "M", "state": "ready", "workers": 2, "slots": 16, "running": 3}],
    }  # fmt: skip


def test_without_a_key_it_says_less() -> None:
    with service(PAGES) as url:
        result = status(url)
    assert result.exit_code == 0
    assert "takes requests" in result.output


def test_a_service_that_takes_no_requests() -> None:
    pages = PAGES | {"/readyz": (503, {"reason": "the request queue cannot be reached"})}
    with service(pages) as url:
        result = status(url, "--key", "key")
    assert result.exit_code == 1
    assert "lives but takes no requests" in result.output
    assert "the request queue cannot be reached" in result.output


def test_no_service() -> None:
    result = status(f"http://127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert "does not answer" in result.output


@pytest.mark.parametrize("body", ["<html>", "[1]", "null", '{"data": 3}'])
def test_something_else_that_answers(body: str) -> None:
    pages = {"/healthz": (200, body), "/readyz": (200, body), "/v1/models": (200, body)}
    with service(pages) as url:
        result = status(url, "--key", "key")
    assert result.exception is None or isinstance(result.exception, SystemExit)
    with service({"/healthz": (200, body), "/readyz": (500, body)}) as url:
        assert status(url).exit_code == 1


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://", "http://x:99999"])
def test_what_is_no_url(url: str) -> None:
    result = status(url)
    assert result.exit_code == 1
    assert "URL" in result.output


def test_the_help_teaches_where_to_begin() -> None:
    result = CliRunner().invoke(main, ["--help"])
    for word in ("headrace demo", "headrace init", "headrace-edge", "headrace-worker", "hub"):
        assert word in result.output
