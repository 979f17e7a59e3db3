"""The gate as a function of file descriptors, and as a process of its own."""

import ast
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from headrace.devcluster.loopback import free_port
from headrace.gate import main
from headrace.gate.script import render

SOURCE = Path(main.__file__).read_text(encoding="utf-8")
SECONDS = 10.0


class Ends(NamedTuple):
    """The far ends of a gate that runs: where sshd is, and where the leaf is."""

    source: int
    sink: int
    leaf: socket.socket
    thread: threading.Thread

    def ended(self) -> bool:
        self.thread.join(SECONDS)
        return not self.thread.is_alive()


@pytest.fixture
def ends() -> Iterator[Ends]:
    near_source, far_source = os.pipe()
    far_sink, near_sink = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as server:
        near_leaf = socket.create_connection(server.getsockname())
        far_leaf = server.accept()[0]

    def run() -> None:
        with near_leaf:
            main.Joint(near_source, near_sink, near_leaf.fileno()).run()
        os.close(near_source)
        os.close(near_sink)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    far_leaf.settimeout(SECONDS)
    yield Ends(far_source, far_sink, far_leaf, thread)
    far_leaf.close()
    for descriptor in (far_source, far_sink):
        try:
            os.close(descriptor)
        except OSError:
            continue  # closed by the test
    thread.join(SECONDS)
    assert not thread.is_alive()


def read(descriptor: int, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := os.read(descriptor, count - len(data))):
        data += more
    return data


def receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := sock.recv(count - len(data))):
        data += more
    return data


def test_bytes_cross_both_ways(ends: Ends) -> None:
    up, down = os.urandom(300_000), os.urandom(300_000)
    writers = [
        threading.Thread(target=ends.leaf.sendall, args=(down,)),
        threading.Thread(target=lambda: os.write(ends.source, up)),
    ]
    for writer in writers:
        writer.start()
    assert read(ends.sink, len(down)) == down
    assert receive(ends.leaf, len(up)) == up
    for writer in writers:
        writer.join()


def test_what_was_said_before_the_leaf_closed_is_delivered(ends: Ends) -> None:
    last = os.urandom(200_000)

    def say() -> None:
        ends.leaf.sendall(last)
        ends.leaf.close()

    speaker = threading.Thread(target=say)
    speaker.start()
    assert read(ends.sink, len(last) + 1) == last
    speaker.join()
    assert ends.ended()


def test_what_was_said_before_the_session_closed_is_delivered(ends: Ends) -> None:
    last = os.urandom(60_000)
    os.write(ends.source, last)
    os.close(ends.source)
    assert receive(ends.leaf, len(last) + 1) == last
    assert ends.ended()


def test_a_reader_that_waits_holds_back_the_writer(ends: Ends) -> None:
    os.set_blocking(ends.source, False)
    written = 0
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < 0.3:
        try:
            written += os.write(ends.source, bytes(65536))
            idle_since = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    # The rest is the kernel's: two sockets' buffers and a pipe's.
    assert written < main.BUFFER_BYTES + 16 * 1024 * 1024
    assert len(receive(ends.leaf, written)) == written


def test_it_ends_with_the_session_while_the_leaf_hangs(ends: Ends) -> None:
    # The leaf reads nothing, so that what the client sends fills every buffer.
    test_until = time.monotonic() + SECONDS
    os.set_blocking(ends.source, False)
    full = 0
    while full < 20 and time.monotonic() < test_until:
        try:
            os.write(ends.source, bytes(65536))
            full = 0
        except BlockingIOError:
            full += 1
            time.sleep(0.01)
    os.close(ends.source)
    os.close(ends.sink)
    assert ends.ended()


def test_it_waits_without_using_the_processor(ends: Ends) -> None:
    # The client has closed and the leaf reads nothing: poll must not report it without end.
    os.set_blocking(ends.source, False)
    try:
        while True:
            os.write(ends.source, bytes(65536))
            time.sleep(0.001)
    except BlockingIOError:
        os.close(ends.source)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(0.3)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 0.15


# As a process


@pytest.fixture
def python() -> str:
    return sys.executable


def run_script(text: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "gate"
    script.write_text(text)
    script.chmod(0o755)
    return subprocess.run(
        [script, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_it_refuses_an_argument(tmp_path: Path, python: str) -> None:
    done = run_script(render("127.0.0.1", free_port(), python), tmp_path, "--help")
    assert (done.returncode, done.stdout) == (main.EXIT_USAGE, "")
    assert done.stderr == "headrace-gate: takes no argument\n"


def test_it_says_that_the_leaf_is_not_there(tmp_path: Path, python: str) -> None:
    port = free_port()
    done = run_script(render("127.0.0.1", port, python), tmp_path)
    assert (done.returncode, done.stdout) == (main.EXIT_UNREACHABLE, "")
    assert done.stderr.startswith(f"headrace-gate: the leaf at 127.0.0.1 port {port} can't be")
    assert done.stderr.count("\n") == 1


def test_it_ends_well_when_its_caller_does(tmp_path: Path, python: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = run_script(render("127.0.0.1", server.getsockname()[1], python), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_environment_is_nothing_to_it(
    tmp_path: Path, python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('the environment was read')")
    (tmp_path / "socket.py").write_text("raise SystemExit('the environment was read')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONINSPECT", "1")
    monkeypatch.setenv("SSH_ORIGINAL_COMMAND", f"touch {tmp_path}/ran")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run_script(render("127.0.0.1", free_port(), python), tmp_path)
    assert done.returncode == main.EXIT_UNREACHABLE
    assert not (tmp_path / "ran").exists()


def in_home(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run the gate's module with `folder` as the home that the password database tells of."""
    program = (
        f"import sys, types, pwd; sys.argv = ['gate']; sys.path.insert(0, {str(folder)!r})\n"
        f"pwd.getpwuid = lambda uid: types.SimpleNamespace(pw_dir={str(folder)!r})\n"
        f"exec(compile(open({main.__file__!r}).read(), 'gate', 'exec'))\n{code}"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("text", "exit_code"),
    [
        (None, main.EXIT_CONFIG),
        ("", main.EXIT_CONFIG),
        ("[]", main.EXIT_CONFIG),
        ('{"host": "127.0.0.1"}', main.EXIT_CONFIG),
        ('{"host": "127.0.0.1", "port": "high"}', main.EXIT_CONFIG),
        ('{"host": "127.0.0.1", "port": PORT}', main.EXIT_UNREACHABLE),
    ],
)
def test_the_console_script_reads_its_address(
    tmp_path: Path, text: str | None, exit_code: int
) -> None:
    if text is not None:
        file = tmp_path / ".config/headrace/gate.json"
        file.parent.mkdir(parents=True)
        file.write_text(text.replace("PORT", str(free_port())))
    done = in_home(tmp_path, "raise SystemExit(main())")
    assert done.returncode == exit_code
    assert done.stderr.startswith("headrace-gate: ")
    assert done.stderr.count("\n") == 1


def test_it_leaves_no_core_file(tmp_path: Path) -> None:
    code = "main(); print(resource.getrlimit(resource.RLIMIT_CORE))"
    assert in_home(tmp_path, code).stdout == "(0, 0)\n"


# As a text


def test_an_old_python_can_read_it() -> None:
    ast.parse(SOURCE, feature_version=(3, 6))


def test_it_imports_the_standard_library_alone() -> None:
    imports = {
        alias.name
        for node in ast.walk(ast.parse(SOURCE))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imports <= sys.stdlib_module_names
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(ast.parse(SOURCE)))


def test_it_reads_no_variable_of_the_environment() -> None:
    words = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(ast.parse(SOURCE))
        if isinstance(node, ast.Attribute | ast.Name)
    }
    assert not words & {"environ", "environb", "getenv", "getenvb", "expanduser", "expandvars"}
