"""The bridge, the gate and real SSH between two real nats-servers, and what breaks them."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.devcluster.loopback import free_port
from tests.support.nats_kit import StartNats
from tests.support.ssh_kit import StartSsh
from tests.support.tunnel_kit import Joined, Way, gone, until

WATCHFUL: dict[str, Any] = {"ping": 1, "silence_seconds": 2.5}
"""The servers ping each other every second, so that silence is soon found."""


async def test_a_question_crosses_and_so_does_its_answer(
    tmp_path: Path, start_ssh: StartSsh, nats: StartNats
) -> None:
    async with Joined(tmp_path, start_ssh, nats).run() as joined:
        assert await joined.crossed() < 10


# Faults, one at a time: the service is back within 10 s without help.


def kill_ssh(joined: Joined) -> None:
    assert joined.tunnel.ssh.kill_sessions()


def kill_gate(joined: Joined) -> None:
    (gate,) = joined.tunnel.gates()
    os.kill(gate, signal.SIGKILL)


def kill_leaf(joined: Joined) -> None:
    joined.leaf.kill()
    joined.leaf.start()


def kill_hub(joined: Joined) -> None:
    joined.hub.kill()
    joined.hub.start()


def kill_bridge(joined: Joined) -> None:
    joined.bridge.kill()
    joined.bridge.start()


def restart_sshd(joined: Joined) -> None:
    joined.tunnel.ssh.stop()
    joined.tunnel.ssh.start()


@pytest.mark.openssh
@pytest.mark.parametrize(
    "fault", [kill_ssh, kill_gate, kill_leaf, kill_hub, kill_bridge, restart_sshd]
)
async def test_the_link_is_back_within_10_seconds_of_a_fault(
    tmp_path: Path,
    start_sshd: StartSsh,
    nats_process: StartNats,
    fault: Callable[[Joined], None],
) -> None:
    async with Joined(tmp_path, start_sshd, nats_process).run() as joined:
        await joined.crossed()
        gates = joined.tunnel.gates()
        fault(joined)
        # Each of these faults takes the old gate along: none may be left on a service node.
        await gone(gates)
        assert await joined.crossed() < 10
        assert len(joined.tunnel.gates()) == 1


@pytest.mark.openssh
async def test_a_stopped_gate_is_found_and_replaced(
    tmp_path: Path, start_sshd: StartSsh, nats_process: StartNats
) -> None:
    async with Joined(tmp_path, start_sshd, nats_process, **WATCHFUL).run() as joined:
        await joined.crossed()
        (gate,) = joined.tunnel.gates()
        os.kill(gate, signal.SIGSTOP)
        await joined.severed()
        assert await joined.crossed() < 10
        assert joined.bridge.troubles().keys() == {"silence"}
        cuts = 'headrace_bridge_cuts_total{cluster="alpha",reason="silence"}'
        assert joined.bridge.metrics()[cuts] == 1
        # The connection was not at fault: it is still the first.
        assert len(joined.bridge.log("connected")) == 1
        os.kill(gate, signal.SIGCONT)
        await gone([gate])


@pytest.mark.openssh
async def test_a_stopped_leaf_is_found(
    tmp_path: Path, start_sshd: StartSsh, nats_process: StartNats
) -> None:
    async with Joined(tmp_path, start_sshd, nats_process, **WATCHFUL).run() as joined:
        await joined.crossed()
        joined.leaf.send_signal(signal.SIGSTOP)
        # The kernel still accepts in its place, so new pipes open: they bring no greeting.
        await until(lambda: joined.bridge.troubles().keys() >= {"silence", "no_greeting"}, 30)
        joined.leaf.send_signal(signal.SIGCONT)
        assert await joined.crossed() < 10


@pytest.mark.openssh
async def test_a_connection_that_swallows_everything_is_found_and_replaced(
    tmp_path: Path, start_sshd: StartSsh, nats_process: StartNats
) -> None:
    way = Way(free_port())
    joined = Joined(tmp_path, start_sshd, nats_process, port=way.port, **WATCHFUL)
    joined.tunnel.ssh.trust(way.port)
    async with way.run(joined.tunnel.ssh.port), joined.run():
        await joined.crossed()
        way.swallow()
        await joined.severed()
        # The silence, then a session that does not open, then a new connection.
        assert await joined.crossed(20) < 15
        assert len(joined.bridge.log("connected")) == 2
