"""What every test shares: the event loop, the parts it may need, the guard against leftovers."""

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

from tests.support import processes
from tests.support.parts import PARTS, why_missing

pytest_plugins = [
    "tests.support.nats_kit",
    "tests.support.ssh_kit",
    "tests.support.edge_kit",
    "tests.support.stores",
    "tests.support.gateway_edges",
    "tests.support.slurm_kit",
    "tests.support.worker_kit",
]

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
# Travels with a test's report, also from xdist's workers to the process that prints the summary.
MISSING = "missing-part"


def pytest_configure() -> None:
    processes.mark()
    # A busy machine is no failure; what hangs meets pytest's own time-out.
    hypothesis.settings.register_profile("headrace", deadline=None)
    hypothesis.settings.load_profile("headrace")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers():
        reason = why_missing(marker.name) if marker.name in PARTS else None
        if reason is None:
            continue
        item.user_properties.append((MISSING, marker.name))
        if IN_CI:
            pytest.fail(f"CI must have every part, but for {marker.name}: {reason}", pytrace=False)
        pytest.skip(f"{marker.name}: {reason}")


def pytest_report_header() -> list[str]:
    return [
        f"part {name}: {'here' if (why := why_missing(name)) is None else f'MISSING, {why}'}"
        for name in PARTS
    ]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    _tell_measured(terminalreporter)
    tests: dict[str, list[str]] = {}
    for outcome in ("skipped", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            for key, part in getattr(report, "user_properties", []):
                if key == MISSING:
                    tests.setdefault(part, []).append(report.nodeid)
    if not tests:
        return
    terminalreporter.section("NOT TESTED: parts are missing here", sep="!", red=True, bold=True)
    for part, nodeids in tests.items():
        terminalreporter.write_line(f"{part}: {why_missing(part)}", red=True)
        for nodeid in nodeids:
            terminalreporter.write_line(f"    not run: {nodeid}")


def _tell_measured(terminalreporter: Any) -> None:
    """What tests have to tell besides their verdict: they record it as the property `told`."""
    told = [
        value
        for report in terminalreporter.stats.get("passed", [])
        for key, value in report.user_properties
        if key == "told"
    ]
    if told:
        terminalreporter.section("TOLD BY TESTS")
        for line in told:
            terminalreporter.write_line(str(line))


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


def _guarded(guard: processes.Guard, where: str) -> None:
    left = guard.left_behind()
    if left:
        listing = "\n".join(f"  {p.pid}: {p.command}" for p in sorted(left))
        pytest.fail(f"{where} left processes behind:\n{listing}", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def guard_session() -> Iterator[processes.Guard]:
    guard = processes.Guard()
    yield guard
    _guarded(guard, "the session")


@pytest.fixture(scope="module", autouse=True)
def guard_module(
    guard_session: processes.Guard, request: pytest.FixtureRequest
) -> Iterator[processes.Guard]:
    """A fixture that outlives its module tells this guard so: `guard_module.adopt(pid)`."""
    guard = processes.Guard()
    yield guard
    _guarded(guard, request.node.nodeid)
