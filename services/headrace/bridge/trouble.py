"""What an operator is told when there is no connection: one sentence, with what to do."""

import time
from typing import Final, NamedTuple

import asyncssh

from headrace.bridge.options import BridgeCluster
from headrace.runtime.logging import Logger

QUIET_SECONDS: Final = 60.0
"""The same complaint is not repeated sooner."""

# The exit codes of headrace.gate.main, and what a shell and sshd say of a command.
_EXITS: Final = {
    64: "the gate was given an argument: compare its line in authorized_keys",
    69: "the gate can't reach the cluster's nats-server: is it running on the service node?",
    78: "the gate's configuration can't be used: run it by hand on the service node",
    126: "the gate can't be executed: is its file executable, and its Python there?",
    127: "there is no gate where the line in authorized_keys says: was it moved?",
}


class LinkDiagnosis(NamedTuple):
    """Why there is no connection."""

    code: str
    """One word for metrics."""
    sentence: str
    refused: bool = False
    """Whether it stays so until a person does something."""


def of_connection(error: Exception | None, cluster: BridgeCluster) -> LinkDiagnosis:
    """What it means that `error` ended a connection or an attempt at one; None for no error."""
    place = f"{cluster.host} port {cluster.port}"
    match error:
        case None:
            return LinkDiagnosis("closed", f"{place} closed the connection")
        case asyncssh.HostKeyNotVerifiable():
            return _of_host_key(cluster, place)
        case asyncssh.PermissionDenied():
            return LinkDiagnosis(
                "key_refused",
                f"{place} refused the key {cluster.key} for user {cluster.user}: add the line that "
                "`headrace init` printed to that account's authorized_keys",
                refused=True,
            )
        case asyncssh.KeyExchangeFailed():
            return LinkDiagnosis(
                "no_algorithm",
                f"{place} and the bridge share no SSH algorithm: {_words(error)}",
                refused=True,
            )
        case TimeoutError():
            return LinkDiagnosis(
                "timeout", f"{place} did not answer in time: is a firewall between?"
            )
        case OSError():
            return LinkDiagnosis(
                "unreachable", f"{place} can't be reached: {error.strerror or error}"
            )
        case _:
            return LinkDiagnosis("closed", f"{place} closed the connection: {_words(error)}")


def _of_host_key(cluster: BridgeCluster, place: str) -> LinkDiagnosis:
    known = asyncssh.match_known_hosts(
        cluster.known_hosts, cluster.host, "", None if cluster.port == 22 else cluster.port
    )
    if any(known):
        return LinkDiagnosis(
            "host_key_changed",
            f"{place} showed another host key than {cluster.known_hosts} has, so "
            "somebody may be in between: ask the centre before you change the file",
            refused=True,
        )
    return LinkDiagnosis(
        "host_unknown",
        f"{cluster.known_hosts} has no key of {place}: add what `ssh-keyscan -p {cluster.port} "
        f"{cluster.host}` prints, after comparing it with what the centre publishes",
        refused=True,
    )


def of_exit(exit_code: int) -> str | None:
    """What the exit code of the forced command means; None for a plain end."""
    if exit_code == 0:
        return None
    return _EXITS.get(exit_code, f"the gate ended with exit code {exit_code}")


def _words(error: Exception) -> str:
    # The text may be the server's: a log line is made of printable characters, and of few.
    return "".join(c for c in str(error)[:200] if c.isprintable())


class RepeatedLog:
    """Logs troubles, but the same one only now and then: attempts go on for as long as it lasts."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._said: dict[str, float] = {}

    def utter(self, code: str, sentence: str) -> None:
        """Log `sentence`, unless its `code` was logged lately."""
        now = time.monotonic()
        if now - self._said.get(code, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._said[code] = now
            self._log.warning("trouble", code=code, reason=sentence)
