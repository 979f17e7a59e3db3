"""The bridge's configuration: what is refused, and what paths mean."""

from pathlib import Path

import pytest

from headrace.bridge.options import Options, placed
from headrace.runtime.config import ConfigError, load

CLUSTER = {
    "name": '"alpha"',
    "host": '"login.example.org"',
    "user": '"headrace"',
    "key": '"keys/tunnel"',
    "known_hosts": '"/etc/headrace/known_hosts"',
    "listen_port": "7500",
}


def options(
    folder: Path, *clusters: dict[str, str], environ: dict[str, str] | None = None
) -> Options:
    file = folder / "bridge.toml"
    tables = ["".join(f"{key} = {value}\n" for key, value in table.items()) for table in clusters]
    file.write_text("".join(f"[[clusters]]\n{table}" for table in tables))
    return placed(load(file, Options, environ or {}, "bridge"), folder)


def test_paths_begin_at_the_files_folder(tmp_path: Path) -> None:
    (cluster,) = options(tmp_path, CLUSTER).clusters
    assert cluster.key == str(tmp_path / "keys/tunnel")
    assert cluster.known_hosts == "/etc/headrace/known_hosts"
    assert cluster.port == 22


def test_the_environment_overrides(tmp_path: Path) -> None:
    environ = {"HEADRACE_BRIDGE__METRICS_PORT": "9102"}
    assert options(tmp_path, CLUSTER, environ=environ).metrics_port == 9102


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": '"Alpha!"'}, "name"),
        ({"host": '""'}, "host"),
        ({"listen_port": "0"}, "listen_port"),
        ({"listen_port": "70000"}, "listen_port"),
        ({"max_sessions": "0"}, "max_sessions"),
        ({"max_sessions": "11"}, "max_sessions"),
        ({"silence_seconds": "0"}, "silence_seconds"),
        ({"password": '"secret"'}, "password"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, change: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        options(tmp_path, CLUSTER | change)


@pytest.mark.parametrize("missing", CLUSTER)
def test_nothing_that_is_needed_may_be_missing(tmp_path: Path, missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        options(tmp_path, {key: value for key, value in CLUSTER.items() if key != missing})


def test_a_bridge_leads_somewhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="clusters"):
        options(tmp_path)


@pytest.mark.parametrize("same", ["name", "listen_port"])
def test_clusters_are_told_apart(tmp_path: Path, same: str) -> None:
    other = CLUSTER | {"name": '"beta"', "listen_port": "7501"}
    with pytest.raises(ConfigError, match=f"{same} .* more than once"):
        options(tmp_path, CLUSTER, other | {same: CLUSTER[same]})
    assert len(options(tmp_path, CLUSTER, other).clusters) == 2
