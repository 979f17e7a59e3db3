"""A whole installation whose clusters have a real Slurm each, to be loaded and broken by tests.

Every part is the real one: hub, bridge, edge, and for each cluster sshd, gate, leaf, scaler and a
Slurm of pretended nodes. Its workers are jobs, with the simulated engine unless a test says else.
"""

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headrace.catalogue import status
from headrace.catalogue.status import ModelRow, Status, WorkerRow
from headrace.cli.demo import ssh_server
from headrace.cli.setup import installation
from headrace.cli.setup.installation import MODELS
from headrace.cli.setup.site import Site, SiteCluster
from headrace.devcluster.cluster import LocalSlurm
from headrace.devcluster.local import LOW, LocalOptions
from headrace.devcluster.loopback import free_ports
from headrace.gateway.policy import api_keys
from headrace.runtime import toml
from headrace.slurm import client
from headrace.slurm.client import SlurmClient
from loadtests.processes import ended
from tests.support import processes
from tests.support.parts import ROOT, find_program, nats_server

LOOPBACK = "127.0.0.1"
MODEL = "sim"
START_SECONDS = 60.0
STOP_SECONDS = 20.0

COMMANDS = ("squeue", "sbatch", "scancel")
WRAPPER = """\
#!/bin/sh
# {name} as the scaler sees it: what it does is written in a file beside it.
echo "$(date +%s.%N) $*" >> {folder}/{name}.calls
case "$(cat {folder}/{name}.mode 2>/dev/null)" in
  fail) echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1 ;;
  hang) exec sleep 3600 ;;
  empty) exit 0 ;;
  garbage) head -c 4000 /dev/urandom; exit 0 ;;
  lost) {real} "$@" > /dev/null; exit 1 ;;
esac
exec {real} "$@"
"""


class Place:
    """One cluster of the farm."""

    def __init__(self, farm: "Farm", cluster: SiteCluster, slurm: LocalSlurm) -> None:
        self.name = cluster.name
        self.site = cluster
        self.slurm = slurm
        self.folder = farm.folder / "clusters" / cluster.name
        self.run = farm.run / cluster.name
        self.commands = self.run / "bin"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def status(self) -> Status:
        """What the scaler tells operators."""
        return status.read(self.state / "status.json")

    def row(self, model: str = MODEL) -> ModelRow:
        return next(row for row in self.status().models if row.model == model)

    def workers(self, phase: str = "") -> list[WorkerRow]:
        """The jobs that the scaler sees, of one phase if given."""
        try:
            rows = self.status().models
        except (OSError, msgspec.DecodeError):
            return []
        return [each for row in rows for each in row.workers if phase in {"", each.phase}]

    def acts(self, model: str = MODEL) -> bool:
        """Whether the scaler knows the model, and knows enough to act."""
        rows = [row for row in self.status().models if row.model == model]
        return bool(rows) and "stale" not in rows[0].reason

    def client(self) -> SlurmClient:
        """Slurm itself, for what an administrator does."""
        return client.local(self.slurm.environ)

    def submit_other(self, *options: str, seconds: int = 20) -> None:
        """A job of somebody else, who knows nothing of us."""
        subprocess.run(
            ["sbatch", "--output=/dev/null", "--chdir=/", f"--wrap=sleep {seconds}", *options],
            env={**os.environ, **self.slurm.environ},
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=30,
        )

    def write_model(self, text: str, name: str = MODEL) -> None:
        """Put a file into the catalogue, whole."""
        new = self.folder / MODELS / f".{name}.new"
        new.write_text(text)
        new.replace(self.folder / MODELS / f"{name}.toml")

    def break_command(self, name: str, mode: str) -> None:
        """What a command does: `fail`, `hang`, say nothing (`empty`) or `garbage`, `lost`."""
        (self.commands / f"{name}.mode").write_text(mode)

    def mend_command(self, name: str) -> None:
        (self.commands / f"{name}.mode").unlink(missing_ok=True)

    def calls(self, name: str) -> list[tuple[float, str]]:
        """When the scaler has run a command, and with which arguments."""
        file = self.commands / f"{name}.calls"
        # Only whole lines: the shell makes the file before it writes into it.
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        return [(float(at), words) for at, _, words in (line.partition(" ") for line in lines)]

    def install_commands(self) -> None:
        self.commands.mkdir(parents=True)
        for name in COMMANDS:
            text = WRAPPER.format(name=name, folder=self.commands, real=find_program(name))
            (self.commands / name).write_text(text)
            (self.commands / name).chmod(0o755)

    def worker_log(self) -> list[dict[str, Any]]:
        """What all workers have logged."""
        lines = []
        for file in sorted((self.run / "jobs").glob("*.log")):
            for line in file.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    lines.append(json.loads(line))
        return lines


class Farm:
    """The installation. Use `running`."""

    def __init__(
        self, folder: Path, names: Sequence[str], options: LocalOptions, keys: int
    ) -> None:
        self.folder = folder
        # Not below `folder`: that is long for a socket's path, and closed to other accounts.
        self.run = Path(tempfile.mkdtemp(prefix="hr-farm-"))
        self.run.chmod(0o711)
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._argv: dict[str, tuple[Sequence[str], dict[str, str]]] = {}
        hub, monitor, metrics, api, *each = free_ports(4 + 4 * len(names))
        clusters = []
        for number, name in enumerate(names):
            leaf, gate, ssh, link = each[4 * number : 4 * number + 4]
            run = self.run / name
            run.mkdir()
            clusters.append(
                SiteCluster(
                    name=name,
                    ssh_host=LOOPBACK,
                    ssh_port=ssh,
                    ssh_user=ssh_server.user(),
                    host_keys=(ssh_server.host_key(run),),
                    home=str(run),
                    gate_python=ssh_server.gate_python(),
                    leaf_host=LOOPBACK,
                    leaf_listen=LOOPBACK,
                    leaf_port=leaf,
                    gate_port=gate,
                    link_port=link,
                    run_dir=str(folder / f"clusters/{name}/run"),
                )
            )
        self.site = Site(
            clusters=tuple(clusters),
            api_port=api,
            hub_port=hub,
            hub_monitor_port=monitor,
            bridge_metrics_port=metrics,
            run_dir=str(folder / "web/run"),
        )
        self.keys = [api_keys.mint() for _ in range(keys)]
        self.places = {
            cluster.name: Place(
                self,
                cluster,
                LocalSlurm(self.run / cluster.name / "slurm", options, environ=processes.environ()),
            )
            for cluster in clusters
        }
        self.base_url = f"http://{LOOPBACK}:{api}/v1"

    @property
    def info(self) -> dict[str, Any]:
        """For `path_kit.stream` and its like."""
        return {"base_url": self.base_url, "api_key": self.keys[0], "model": MODEL}

    def start(self) -> None:
        """Start everything but what a model's file asks for."""
        done = installation.install(self.folder, self.site, api_key=self.keys[0])
        self._admit_keys()
        nats = str(nats_server())
        self._start("hub", [nats, "-c", str(self.folder / "web/hub.conf")])
        for place in self.places.values():
            (place.run / "jobs").mkdir()
            place.install_commands()
            shutil.copy(place.folder / "gate", place.site.gate_path)
            for example in (place.folder / MODELS).iterdir():
                example.unlink()
            line = done.authorized_keys[place.name]
            server = ssh_server.prepare(place.run, line, place.site.ssh_port)
            self._start(f"{place.name}-sshd", server.argv)
            self._start(f"{place.name}-leaf", [nats, "-c", str(place.folder / "leaf.conf")])
        self._start("bridge", daemon("bridge", self.folder / "web/bridge.toml"))
        self._start(
            "edge",
            daemon("edge", self.folder / "web/edge.toml"),
            HEADRACE_EDGE__HOLD_SECONDS="0.2",
            HEADRACE_EDGE__COMMENT_SECONDS="1",
        )
        for place in self.places.values():
            place.slurm.start()
            self._point_scaler(place)
            self._start(
                f"{place.name}-scaler",
                daemon("scaler", place.folder / "scaler.toml"),
                PATH=f"{place.commands}:{os.environ['PATH']}",
                HEADRACE_SCALER__INTERVAL_SECONDS="1",
                **place.slurm.environ,
            )
        until(self._serves, START_SECONDS)

    def model(self, place: Place, **changes: Any) -> str:
        """A model's file: what is said of `scale`, `job`, `engine` and its top, over defaults."""
        sections: dict[str, dict[str, Any]] = {
            "": {"name": MODEL, "slots": 4, "drain_seconds": 5.0},
            "engine": {
                "kind": "command",
                "command": (
                    sys.executable, "-m", "loadtests.simengine", "--uds", "{socket}",
                    "--model", "{name}", "--load-seconds", "1",
                ),
                "stop_seconds": 2.0,
                "continues": "tokens",
            },
            "engine.env": {"PYTHONPATH": pythonpath(), "SIM_TOKENS": "20", "SIM_DELAY_MS": "20"},
            "scale": {"min": 0, "max": 2, "idle_seconds": 5.0, "load_seconds": 4.0},
            "job": {
                "time": "01:00:00",
                "partitions": (LOW,),
                "gres": "gpu:4",
                "output": f"{place.run}/jobs/%j.log",
                "prologue": [
                    f"export {name}={shlex.quote(value)}"
                    for name, value in {
                        "PYTHONPATH": pythonpath(),
                        "TMPDIR": str(place.run),
                        **processes.environ(),
                    }.items()
                ],
            },
        }  # fmt: skip
        for key, value in changes.items():
            section = "engine.env" if key == "env" else key
            if isinstance(value, Mapping) and section in sections:
                sections[section] = {**sections[section], **value}
            else:
                sections[""][key] = value
        return toml.document(
            "A test's model.",
            *(
                toml.table(f"[{name}]" if name else "", section)
                for name, section in sections.items()
            ),
        )

    def serve(self, **changes: Any) -> None:
        """Put the model into every cluster's catalogue, and wait until all know it and act on it.

        A scaler that has just begun does nothing before it has listened for workers.
        """
        for place in self.places.values():
            place.write_model(self.model(place, **changes))
        until(lambda: MODEL in self.models(), START_SECONDS)
        until(lambda: all(place.acts() for place in self.places.values()), START_SECONDS)

    def models(self) -> dict[str, dict[str, Any]]:
        """``/v1/models`` by id; empty where the edge does not answer."""
        request = urllib.request.Request(
            f"{self.base_url}/models", headers={"authorization": f"Bearer {self.keys[0]}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return {each["id"]: each for each in json.load(answer)["data"]}
        except OSError:
            return {}

    def state(self, model: str = MODEL) -> str:
        """How the model stands, as clients are told."""
        return str(self.models()[model]["headrace"]["state"])

    def kill(self, name: str) -> None:
        """SIGKILL to a part, for good."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def restart(self, name: str) -> None:
        """Start a part again that was killed."""
        argv, environ = self._argv[name]
        self._start(name, argv, **environ)

    def log(self, name: str) -> list[dict[str, Any]]:
        """What a daemon of ours has logged."""
        lines = []
        for line in (self.logs / f"{name}.log").read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    def told(self) -> str:
        """The ends of all logs, for a test's message."""
        texts = [*self.logs.glob("*.log"), *self.run.glob("*/jobs/*.log")]
        texts += list(self.run.glob("*/slurm/log/slurmctld.log"))
        return "\n".join(
            f"--- {each.name}\n{each.read_text(errors='replace')[-1500:]}" for each in texts
        )

    def stop(self) -> None:
        """End everything."""
        for place in self.places.values():
            place.slurm.stop()
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            ended(process, STOP_SECONDS)
        shutil.rmtree(self.run, ignore_errors=True)

    def _start(self, name: str, argv: Sequence[str], **environ: str) -> None:
        self._argv[name] = (argv, environ)
        with (self.logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                argv,
                env={**os.environ, "PYTHONPATH": pythonpath(), **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _admit_keys(self) -> None:
        secret = api_keys.load_secret(self.folder / "web/keys/api.secret")
        with (self.folder / "web/edge.toml").open("a") as file:
            for number, key in enumerate(self.keys[1:], 2):
                entry = {"id": f"key{number}", "digest": api_keys.digest(secret, key)}
                file.write("\n" + toml.table("[[keys]]", entry) + "\n")

    def _point_scaler(self, place: Place) -> None:
        """Workers of the jobs run from this checkout."""
        text = (place.folder / "scaler.toml").read_text()
        words = [sys.executable, "-P", "-m", "headrace.worker.main"]
        command = f"worker_command = {json.dumps(words)}"
        lines = [
            command if line.startswith("worker_command") else line for line in text.split("\n")
        ]
        assert command in lines
        (place.folder / "scaler.toml").write_text("\n".join(lines))

    def _serves(self) -> bool:
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} has ended:\n{self.told()}"
        try:
            url = self.base_url.removesuffix("/v1") + "/readyz"
            with urllib.request.urlopen(url, timeout=2):
                return all((place.state / "status.json").exists() for place in self.places.values())
        except OSError:
            return False


def daemon(name: str, config: Path) -> list[str]:
    """A daemon of ours from this checkout."""
    entry = f"import sys; from headrace.{name}.main import main; sys.exit(main())"
    return [sys.executable, "-P", "-c", entry, "--config", str(config)]


def pythonpath() -> str:
    """Where workers and engines find this checkout, whatever its installation says."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])])


def until(true: Callable[[], Any], seconds: float) -> float:
    """Wait until `true()` is, and tell how long that took. For code that need not be async."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds, f"not within {seconds:g} s"
        time.sleep(0.05)
    return time.monotonic() - begun


async def eventually(true: Callable[[], Any], seconds: float, farm: Farm) -> float:
    """The same beside a load that must go on."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds, f"not within {seconds:g} s\n{farm.told()}"
        await asyncio.sleep(0.05)
    return time.monotonic() - begun


@contextlib.contextmanager
def running(
    folder: Path,
    names: Sequence[str] = ("alpha",),
    *,
    options: LocalOptions | None = None,
    keys: int = 1,
) -> Iterator[Farm]:
    """A farm that serves; nothing of it is left afterwards."""
    farm = Farm(folder, names, options or LocalOptions(kill_wait=3, grace_seconds=10), keys)
    try:
        farm.start()
        yield farm
    finally:
        farm.stop()
