"""`headrace init`: everything that a web machine and its clusters need, in one folder each."""

from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import click

from headrace.cli.setup import installation, next_steps, values
from headrace.cli.setup.site import Site, SiteCluster, SiteModel
from headrace.runtime.config import ConfigError

FIRST_LINK_PORT = 7500


@click.command(short_help="Set up a web machine and its clusters.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--cluster",
    "clusters",
    multiple=True,
    metavar="NAME[=USER@HOST[:PORT]]",
    help="A cluster, and where its sshd is. Repeat it for more clusters.",
)
@click.option("--ssh-host", help="The sshd of clusters given by their name alone.")
@click.option("--ssh-port", type=int, default=22, show_default=True)
@click.option("--ssh-user", help="The account on them.")
@click.option(
    "--ssh-host-key",
    "host_keys",
    multiple=True,
    metavar="[NAME=]FILE|LINE",
    help="The public key of a cluster's sshd: a .pub file, or a line of ssh-keyscan that "
    "you have verified.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="A model that the edge offers. Repeat it for more.",
)
@click.option(
    "--external",
    "externals",
    multiple=True,
    metavar="NAME",
    help="A model of a commercial provider, described in web/models.d/. Repeat it for more.",
)
@click.option(
    "--cluster-dir",
    help="Where a cluster's folder will lie on its service node. [default: /home/USER/headrace]",
)
@click.option(
    "--gate-python",
    default="/usr/bin/python3",
    show_default=True,
    help="A Python of the service node, 3.6 or newer, that runs the gate.",
)
@click.option(
    "--leaf-host", help="The service node's name as compute nodes know it. [default: its SSH name]"
)
@click.option(
    "--leaf-port",
    type=int,
    default=4222,
    show_default=True,
    help="On the service node, for workers.",
)
@click.option(
    "--gate-port",
    type=int,
    default=7422,
    show_default=True,
    help="On the service node's loopback, for the gate.",
)
@click.option(
    "--link-port",
    type=int,
    default=FIRST_LINK_PORT,
    show_default=True,
    help="On the web machine's loopback, for the first cluster; the next ones follow.",
)
@click.option("--hub-port", type=int, default=4222, show_default=True)
@click.option("--hub-monitor-port", type=int, default=8222, show_default=True)
@click.option("--bridge-metrics-port", type=int, default=9102, show_default=True)
@click.option("--api-host", default="127.0.0.1", show_default=True)
@click.option("--api-port", type=int, default=8080, show_default=True)
@click.option("--force", is_flag=True, help="Write configurations anew; keys are kept.")
@click.option("--new-keys", is_flag=True, help="With --force: new keys too, everywhere.")
def init(directory: Path, force: bool, new_keys: bool, **given: object) -> None:
    """Set up one web machine and its clusters.

    DIRECTORY/web/ and DIRECTORY/clusters/NAME/ get configurations, keys, and for a cluster the
    gate and its line for authorized_keys. Nothing is started and nothing is sent anywhere; at the
    end you read what to do on each machine.

    Example: headrace init site --cluster alpha=llm@login.alpha.example.org --model Qwen/Qwen3-8B
    """
    if new_keys and not force:
        raise click.UsageError("--new-keys replaces keys that are in use: say --force as well.")
    try:
        site = site_of(**given)  # type: ignore[arg-type]  # click's options are those parameters
        done = installation.install(directory, site, force=force, new_keys=new_keys)
    except installation.AlreadyInstalledError as error:
        raise click.ClickException(
            f"{error} is not empty. --force writes its configurations anew and keeps the keys."
        ) from error
    except (ValueError, ConfigError) as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    click.echo(next_steps.text(directory, site, done))


def site_of(
    *,
    clusters: Iterable[str],
    ssh_host: str | None,
    ssh_port: int,
    ssh_user: str | None,
    host_keys: Iterable[str],
    models: Iterable[str],
    externals: Iterable[str],
    cluster_dir: str | None,
    gate_python: str,
    leaf_host: str | None,
    leaf_port: int,
    gate_port: int,
    link_port: int,
    hub_port: int,
    hub_monitor_port: int,
    bridge_metrics_port: int,
    api_host: str,
    api_port: int,
) -> Site:
    """The site that the command line describes. Raises ValueError."""
    keys = _host_keys(host_keys)
    made = []
    for number, text in enumerate(clusters):
        name, _, at = text.partition("=")
        user, host, port = values.target(at) if at else (ssh_user or "", ssh_host or "", ssh_port)
        if not user or not host:
            _refuse(f"cluster {name!r}: where is its sshd? Say --cluster {name}=USER@HOST[:PORT]")
        made.append(
            SiteCluster(
                name=name,
                ssh_host=host,
                ssh_port=port,
                ssh_user=user,
                host_keys=(*keys.pop(name, ()), *keys.get("", ())),
                home=cluster_dir or "",
                gate_python=gate_python,
                leaf_host=leaf_host or "",
                leaf_port=leaf_port,
                gate_port=gate_port,
                link_port=link_port + number,
            )
        )
    if not made:
        _refuse("which clusters? Say --cluster NAME=USER@HOST[:PORT], once for each")
    if keys.pop("", ()) and len(made) > 1:
        _refuse("--ssh-host-key: with several clusters say which one: NAME=FILE")
    if keys:
        _refuse(f"--ssh-host-key names no cluster of this site: {', '.join(keys)}")
    return Site(
        clusters=tuple(made),
        models=tuple(SiteModel(name) for name in models),
        external=tuple(SiteModel(name) for name in externals),
        api_host=api_host,
        api_port=api_port,
        hub_port=hub_port,
        hub_monitor_port=hub_monitor_port,
        bridge_metrics_port=bridge_metrics_port,
    )


def _host_keys(given: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Host keys by cluster; by the empty name where none was said."""
    found: dict[str, tuple[str, ...]] = {}
    for text in given:
        name, equals, rest = text.partition("=")
        # A key's padding is an equals sign too, but no key looks like a cluster's name.
        named = bool(equals) and " " not in name and "/" not in name
        name, source = (name, rest) if named else ("", text)
        path = Path(source)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else [source]
        keys = (values.host_key(line) for line in lines if line and not line.startswith("#"))
        found[name] = (*found.get(name, ()), *keys)
    return found


def _refuse(why: str) -> NoReturn:
    raise ValueError(why)
