"""`headrace init`: what it writes, for whom, and what it refuses."""

import re
import stat
from pathlib import Path

import asyncssh
import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from headrace.bridge.options import Options as BridgeOptions
from headrace.bridge.options import placed
from headrace.catalogue import loader
from headrace.cli import resources
from headrace.cli.main import main
from headrace.cli.setup import nats_conf
from headrace.cli.setup.site import Site, SiteCluster, SiteModel
from headrace.edge.options import EdgeOptions
from headrace.gateway.policy import api_keys
from headrace.runtime import config
from headrace.scaler import main as scaler_main
from headrace.worker import options as worker_options

TWO = ("--cluster", "alpha=llm@login.alpha.org", "--cluster", "beta=me@10.0.0.1:2222")
MODEL = ("--model", "Qwen/Qwen3-8B")
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHqz17izArtHnZizS2zrMNuH/gB/z80bEDbHUE3OLGDc"


def init(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["init", str(folder), *options])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def made(folder: Path) -> Result:
    result = init(folder, *TWO, *MODEL)
    assert result.exit_code == 0, result.output
    return result


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def printed_key(result: Result) -> str:
    match = re.search(r"hr_[0-9A-Za-z]{49}", result.output)
    assert match is not None
    return match[0]


def test_the_files(made: Result, folder: Path) -> None:
    own = {
        "leaf.conf",
        "worker.toml",
        "scaler.toml",
        "models.d/small.toml.example",
        "gate",
        "authorized_keys",
        "keys/worker.nk",
        "keys/scaler.nk",
    }
    web = {
        "hub.conf", "edge.toml", "bridge.toml", "known_hosts", "keys/edge.nk",
        "keys/hub-worker.nk", "keys/api.secret",
    }  # fmt: skip
    for name in ("alpha", "beta"):
        web |= {f"keys/{name}.link.nk", f"keys/{name}.tunnel"}
    expected = {f"web/{file}" for file in web}
    expected |= {f"clusters/{name}/{file}" for name in ("alpha", "beta") for file in own}
    assert set(files(folder)) == expected


def test_nobody_else_may_read_anything(made: Result, folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        expected = 0o700 if path.is_dir() or path.name == "gate" else 0o600
        assert mode == expected, path


def test_no_secret_crosses_to_another_machine(made: Result, folder: Path) -> None:
    machines = {"web": folder / "web"}
    machines |= {name: folder / "clusters" / name for name in ("alpha", "beta")}
    secrets = {
        machine: {
            word
            for path in (place / "keys").iterdir()
            for word in path.read_text().split()
            if len(word) > 40
        }
        for machine, place in machines.items()
    }
    assert all(secrets.values())
    for machine, place in machines.items():
        text = b"\n".join(files(place).values()).decode()
        for other, words in secrets.items():
            assert machine == other or not any(word in text for word in words)
        assert printed_key(made) not in text


def test_the_daemons_accept_their_configurations(made: Result, folder: Path) -> None:
    edge = config.load(folder / "web/edge.toml", EdgeOptions, {}, "edge")
    secret = api_keys.load_secret(folder / "web" / edge.secret_file)
    assert [key.digest for key in edge.keys] == [api_keys.digest(secret, printed_key(made))]
    assert [(model.name, model.queue) for model in edge.models] == [
        ("Qwen/Qwen3-8B", "qwen-qwen3-8b")
    ]
    web = folder / "web"
    bridge = placed(config.load(web / "bridge.toml", BridgeOptions, {}, "bridge"), web)
    for cluster in bridge.clusters:
        assert asyncssh.read_private_key(cluster.key).get_algorithm() == "ssh-ed25519"
        assert Path(cluster.known_hosts).is_file()
    alpha, beta = bridge.clusters
    assert (alpha.host, alpha.port, alpha.user) == ("login.alpha.org", 22, "llm")
    assert (beta.host, beta.port, beta.user) == ("10.0.0.1", 2222, "me")
    assert f"nats-leaf://127.0.0.1:{beta.listen_port}" in (web / "hub.conf").read_text()
    worker = worker_options.load(folder / "clusters/alpha/worker.toml", {})
    assert worker.model == edge.models[0].queue
    assert Path(worker.bus.nkey_file).is_file()


def test_the_scaler_accepts_its_configuration_and_finds_what_it_names(
    made: Result, folder: Path
) -> None:
    cluster = folder / "clusters/alpha"
    options = scaler_main.load(cluster / "scaler.toml")
    assert options.cluster == "alpha"
    assert (options.bus.url, options.worker_bus.url) == ("nats://login.alpha.org:4222",) * 2
    for file in (options.bus.nkey_file, options.worker_bus.nkey_file):
        assert Path(file).is_file()
    example = cluster / "models.d/small.toml.example"
    assert loader.load(Path(options.models)).entries == {}
    example.rename(example.with_suffix(""))
    found = loader.load(Path(options.models))
    assert not found.problems
    assert set(found.entries) == {"qwen3-8b"}
    assert "headrace-scaler --config /home/llm/headrace/scaler.toml" in made.output


def test_the_lines_of_authorized_keys_allow_the_gate_alone(made: Result, folder: Path) -> None:
    for name, home in (("alpha", "/home/llm/headrace"), ("beta", "/home/me/headrace")):
        line = (folder / f"clusters/{name}/authorized_keys").read_text().strip()
        assert line.startswith(f'restrict,command="{home}/gate" ssh-ed25519 ')
        assert line in made.output
        key = asyncssh.read_private_key(str(folder / f"web/keys/{name}.tunnel"))
        assert key.export_public_key().decode().split()[1] in line


def test_a_second_run_is_refused_and_changes_nothing(made: Result, folder: Path) -> None:
    before = files(folder)
    again = init(folder, *TWO, *MODEL)
    assert again.exit_code == 1
    assert "--force" in again.output
    assert files(folder) == before


def test_force_changes_nothing_that_was_not_asked_for(made: Result, folder: Path) -> None:
    before = files(folder)
    again = init(folder, *TWO, *MODEL, "--force")
    assert again.exit_code == 0
    assert files(folder) == before
    assert "hr_" not in again.output


def test_force_adds_a_cluster_and_keeps_every_key(made: Result, folder: Path) -> None:
    before = files(folder)
    again = init(folder, *TWO, "--cluster", "gamma=x@gamma", "--force")
    assert again.exit_code == 0
    after = files(folder)
    assert all(after[name] == before[name] for name in before if "/keys/" in name)
    assert after["clusters/alpha/leaf.conf"] == before["clusters/alpha/leaf.conf"]
    assert b"cluster gamma" in after["web/hub.conf"]


def test_new_keys_are_new_everywhere(made: Result, folder: Path) -> None:
    before = files(folder)
    assert init(folder, *TWO, *MODEL, "--new-keys").exit_code == 2
    again = init(folder, *TWO, *MODEL, "--force", "--new-keys")
    assert again.exit_code == 0
    after = files(folder)
    assert not [name for name in before if "/keys/" in name and after[name] == before[name]]
    assert printed_key(again) != printed_key(made)


def test_host_keys_come_from_files_and_lines_and_stay(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "host.pub"
    file.write_text(f"# comment\n{HOST_KEY} root@beta\n")
    made = init(
        folder, *TWO, "--ssh-host-key", f"alpha={HOST_KEY}", "--ssh-host-key", f"beta={file}"
    )
    assert made.exit_code == 0
    assert "ssh-keyscan" not in made.output

    def entries() -> list[str]:
        lines = (folder / "web/known_hosts").read_text().splitlines()
        return [line for line in lines if not line.startswith("#")]

    expected = [f"login.alpha.org {HOST_KEY}", f"[10.0.0.1]:2222 {HOST_KEY}"]
    assert entries() == expected
    assert init(folder, *TWO, "--force").exit_code == 0
    assert sorted(entries()) == sorted(expected)


def test_without_host_keys_it_says_how_to_get_and_check_them(made: Result) -> None:
    assert "ssh-keyscan -t ed25519 -p 2222 10.0.0.1" in made.output
    assert "fingerprint" in made.output


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "which clusters"),
        (["--cluster", "alpha"], "where is its sshd"),
        (["--cluster", "Alpha=a@b"], "not a slug"),
        (["--cluster", "a=a@b;id"], "not a host"),
        (["--cluster", "a=a@b", "--cluster", "a=a@c"], "given twice"),
        (["--cluster", "a=a@b", "--leaf-port", "0"], "not a port"),
        (["--cluster", "a=a@b", "--hub-port", "8080"], "given twice"),
        (["--cluster", "a=a@b", "--cluster-dir", "/home/x y"], "not an absolute path"),
        (["--cluster", "a=a@b", "--gate-python", "python3"], "not an absolute path"),
        (["--cluster", "a=a@b", "--leaf-host", "x y"], "not a host"),
        (["--cluster", "a=a@b", "--ssh-host-key", "nonsense"], "not an SSH host key"),
        (["--cluster", "a=a@b", "--ssh-host-key", f"b={HOST_KEY}"], "names no cluster"),
        (["--cluster", "a=a@b", "--model", "a\nb"], "printable"),
        ([*TWO, "--ssh-host-key", HOST_KEY], "say which one"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    folder: Path, options: list[str], why: str
) -> None:
    result = init(folder, *options)
    assert result.exit_code == 2
    assert why in " ".join(result.output.split())
    assert not folder.exists()


@given(st.text(max_size=40))
def test_no_text_becomes_a_cluster_host_or_user_unchecked(text: str) -> None:
    for field in ("name", "ssh_host", "ssh_user", "leaf_host", "home", "gate_python", "run_dir"):
        fields = {"name": "a", "ssh_host": "b", "ssh_user": "c"} | {field: text}
        try:
            cluster = SiteCluster(**fields)  # type: ignore[arg-type]  # each is a text
        except ValueError:
            continue
        assert not set(text) & set('\n\0"\\$'), field
        assert field == "run_dir" or not set(text) & set(" ;`'&|"), field
        assert msgspec.structs.asdict(cluster)[field] == text


def test_init_keeps_secrets_out_of_reach_if_its_folder_was_open(folder: Path) -> None:
    (folder / "web").mkdir(parents=True, mode=0o755)
    assert init(folder, *TWO).exit_code == 0
    assert stat.S_IMODE((folder / "web").stat().st_mode) == 0o700


def test_a_folder_that_was_there_keeps_its_mode(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    assert init(folder, *TWO).exit_code == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_every_placeholder_of_the_templates_is_filled(made: Result, folder: Path) -> None:
    for file in folder.rglob("*.conf"):
        assert "${" not in file.read_text()
        assert not re.search(r"\$[a-z_]+", file.read_text())
    assert "$hub_listen" in resources.template("hub.conf")


def test_the_hub_holds_no_key_twice(made: Result, folder: Path) -> None:
    text = (folder / "web/hub.conf").read_text()
    assert text.count("nats-leaf://127.0.0.1:") == 2
    seeds = re.findall(r"SU[A-Z2-7]{56}", text)
    assert len(set(seeds)) == len(seeds) == 2


def test_two_models_with_one_slug_are_refused() -> None:
    with pytest.raises(ValueError, match="given twice"):
        Site(clusters=(), models=(SiteModel("A/B"), SiteModel("a-b")))


def test_what_is_denied_is_denied_under_both_prefixes() -> None:
    cluster = SiteCluster(name="a", ssh_host="b", ssh_user="c")
    assert cluster.gate_path == "/home/c/headrace/gate"
    for verb in nats_conf.DENIED_API:
        assert not verb.startswith(("CONSUMER.MSG.NEXT", "CONSUMER.INFO"))
