"""What daemons share: configuration, the log's allow-list, JetStream's replies, their life."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from headrace.runtime import config, lifecycle, logging
from headrace.runtime.config import ConfigError
from headrace.runtime.lifecycle import Lifecycle
from headrace.runtime.nats.jetstream import Delivery, delivery_of


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    url: str = "u"


class Options(msgspec.Struct, forbid_unknown_fields=True):
    port: int = 1
    name: str = ""
    inner: Inner = msgspec.field(default_factory=Inner)


def load(tmp_path: Path, text: str, **environ: str) -> Options:
    path = tmp_path / "x.toml"
    path.write_text(text)
    return config.load(path, Options, environ, "test")


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    options = load(
        tmp_path, "port = 2\nname = 'a'", HEADRACE_TEST__PORT="3", HEADRACE_TEST__INNER__URL="x:1"
    )
    assert options == Options(3, "a", Inner("x:1"))
    assert load(tmp_path, "", HEADRACE_OTHER__PORT="3").port == 1


@pytest.mark.parametrize(
    ("text", "environ", "reason"),
    [
        ("port = =\n", {}, "line 1"),
        ("prot = 2", {}, "prot"),
        ("port = 'x'", {}, "port"),
        ("", {"HEADRACE_TEST__PORT": "many"}, "port"),
        ("port = 2", {"HEADRACE_TEST__PORT__X": "1"}, "not a table"),
    ],
)
def test_bad_configuration_is_told_with_its_place(
    tmp_path: Path, text: str, environ: dict[str, str], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(tmp_path, text, **environ)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        config.load(tmp_path / "nowhere.toml", Options, {}, "test")


def test_a_secret_must_be_its_owners_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3\n")
    secret.chmod(0o600)
    assert config.read_secret(str(secret)) == "s3"
    secret.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        config.read_secret(str(secret))
    secret.chmod(0o600)
    secret.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        config.read_secret(str(secret))


@pytest.fixture
def log() -> Any:
    logging.setup("test")
    out = io.BytesIO()
    structlog.configure(logger_factory=structlog.BytesLoggerFactory(file=out))
    yield structlog.get_logger(), out
    structlog.reset_defaults()


def test_a_field_that_is_not_allowed_is_withheld(log: Any) -> None:
    logger, out = log
    logger.info("finished", request="r", prompt="SECRET", body=b"SECRET")
    line = json.loads(out.getvalue())
    assert line["action"] == "finished"
    assert line["prompt"] == "<withheld str>"
    assert b"SECRET" not in out.getvalue()


def test_an_exception_is_logged_without_its_text(log: Any) -> None:
    logger, out = log
    try:
        int("SECRET")
    except ValueError as error:
        logger.error("crashed", exc_info=error)
    line = json.loads(out.getvalue())
    assert line["error"] == "ValueError"
    assert "test_runtime.py" in line["places"][0]
    assert b"SECRET" not in out.getvalue()


def test_what_a_delivery_tells() -> None:
    plain = "$JS.ACK.REQUESTS.m_high.2.17.9.1795331755302235035.4"
    assert delivery_of(plain) == Delivery(stream_seq=17, delivered=2, pending=4)
    with_domain = "$JS.ACK.hub.hash.REQUESTS.m_high.2.17.9.1795331755302235035.4.token"
    assert delivery_of(with_domain) == delivery_of(plain)


@given(st.text(max_size=60))
def test_other_subjects_tell_nothing(subject: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int's message or ours
        delivery_of(subject)


DAEMON = """
import asyncio, resource
from headrace.runtime import lifecycle, logging
async def main(life):
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    life.ready()
    print("up", flush=True)
    await life.stopping.wait()
    if {stubborn}:
        await asyncio.sleep(60)
    return 7
raise SystemExit(lifecycle.run(main, logging.setup("test")))
"""


TERM, INT = signal.SIGTERM, signal.SIGINT


@pytest.mark.parametrize(
    ("stubborn", "signals", "code"),
    [(False, [TERM], 7), (False, [INT], 7), (True, [TERM, INT], 1), (True, [TERM, TERM, INT], 1)],
)
def test_signals_end_a_daemon(stubborn: bool, signals: list[signal.Signals], code: int) -> None:
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON.format(stubborn=stubborn)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ,
    )
    with daemon:
        assert daemon.stdout is not None
        assert daemon.stderr is not None
        assert daemon.stdout.readline() == b"up\n"
        assert b'"ready"' in daemon.stderr.readline()
        for number in signals:
            assert daemon.poll() is None
            daemon.send_signal(number)
            assert b"stopping" in daemon.stderr.readline()
        assert daemon.wait(10) == code


@pytest.mark.parametrize(("seconds", "hurry"), [(60, 0.2), (0.2, 15)])
async def test_a_second_sigterm_shortens_the_drain_and_never_lengthens_it(
    monkeypatch: pytest.MonkeyPatch, seconds: float, hurry: float
) -> None:
    monkeypatch.setattr(lifecycle, "HURRY_SECONDS", hurry)
    loop = asyncio.get_running_loop()
    life = Lifecycle(logging.setup("test"), seconds)
    began = loop.time()
    life.stop("SIGTERM")
    loop.call_soon(life.hurry, "SIGTERM")
    loop.call_later(0.1, life.hurry, "SIGTERM")  # once more changes nothing
    with pytest.raises(TimeoutError):
        async with life.draining():
            await asyncio.sleep(30)
    assert loop.time() - began < 5
    assert life.hurried.is_set()
    assert life.drain_left < 0.1


async def test_a_drain_that_ends_in_time_is_left_alone() -> None:
    life = Lifecycle(logging.setup("test"), 60)
    async with life.draining():
        life.stop("SIGTERM")
        life.hurry("SIGTERM")
    life.hurry("SIGTERM")
    assert 0 < life.drain_left <= lifecycle.HURRY_SECONDS


FAILING = """
from headrace.runtime import lifecycle, logging, config
async def main(life):
    raise {error}
raise SystemExit(lifecycle.run(main, logging.setup("test")))
"""


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        ("lifecycle.FatalError('no port')", 1, "headrace: no port"),
        ("ExceptionGroup('', [lifecycle.FatalError('no port')])", 1, "headrace: no port"),
        ("config.ConfigError('x.toml: bad')", 78, "headrace: x.toml: bad"),
        ("KeyError('SECRET')", 1, "KeyError"),
    ],
)
def test_a_daemon_says_why_it_fails(error: str, code: int, told: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FAILING.format(error=error)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert ended.returncode == code
    assert told in ended.stderr
    assert "SECRET" not in ended.stderr
