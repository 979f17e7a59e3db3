"""``headrace-edge``: the HTTP side of Headrace, on the web machine."""

import argparse
import os
import sys
from pathlib import Path

import msgspec

from headrace.edge.options import EdgeOptions
from headrace.edge.supervisor import supervise
from headrace.external import folder
from headrace.external.model import ExternalModel
from headrace.gateway.options import resolved
from headrace.protocol.names import Slug
from headrace.runtime import config, lifecycle, logging

DESCRIPTION = """\
Serves the OpenAI-compatible API: checks the key, puts each request into its model's queue on the
hub's NATS, and streams the answer back. `headrace init` writes the configuration.
"""


def main() -> int:
    """Run the edge; returns its exit code."""
    parser = argparse.ArgumentParser(prog="headrace-edge", description=DESCRIPTION)
    parser.add_argument("--config", type=Path, required=True, help="edge.toml")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning"])
    # One of several processes on the port, started by the first: not for people.
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    log = logging.setup("edge", arguments.log_level)
    try:
        options = load(arguments.config)
        external = _external(options)
    except config.ConfigError as error:
        sys.stderr.write(f"headrace-edge: {error}\n")
        return lifecycle.EXIT_CONFIG
    if options.processes > 1 and not arguments.child:
        command = [sys.executable, "-m", "headrace.edge.main", *sys.argv[1:], "--child"]
        return lifecycle.run(
            lambda life: supervise(command, options, life), log, drain_seconds=options.drain_seconds
        )
    created = int(arguments.config.stat().st_mtime)
    # Imported late: prometheus-client decides at import whether its values are shared.
    from headrace.edge.server import serve

    return lifecycle.run(
        lambda life: serve(options, external, created, life),
        log,
        drain_seconds=options.drain_seconds,
    )


def _external(options: EdgeOptions) -> dict[Slug, ExternalModel]:
    """The external models, none of which may be one of the site's own. Raises ConfigError."""
    if not options.external:
        return {}
    found = folder.load_all(Path(options.external))
    own = {word for model in options.models for word in (model.name, str(model.queue))}
    for slug, file in found.items():
        if own & {file.name, str(slug)}:
            raise config.ConfigError(f"models: {file.name!r} is an external model too")
    return found


def load(path: Path) -> EdgeOptions:
    """The options at `path`, with the paths in them resolved. Raises ConfigError.

    Secrets stand then in place of the names of their files: options are never shown.
    """
    options = config.load(path, EdgeOptions, os.environ, "edge")
    nkey_file = options.bus.nkey_file
    bus = msgspec.structs.replace(
        options.bus, nkey_file=str(config.resolve(path.parent, nkey_file)) if nkey_file else ""
    )
    counters = options.counters
    if counters.password_file:
        file = config.resolve(path.parent, counters.password_file)
        password = config.read_secret(str(file))
        counters = msgspec.structs.replace(counters, password_file=password)
    sign_in, proxy = options.sign_in, options.proxy
    if sign_in.client_secret_file:
        text = config.read_secret(str(config.resolve(path.parent, sign_in.client_secret_file)))
        sign_in = msgspec.structs.replace(sign_in, client_secret_file=text)
    if proxy.secret_file:
        text = config.read_secret(str(config.resolve(path.parent, proxy.secret_file)))
        proxy = msgspec.structs.replace(proxy, secret_file=text)
    secret = str(config.resolve(path.parent, options.secret_file))
    external = str(config.resolve(path.parent, options.external)) if options.external else ""
    return msgspec.structs.replace(
        options,
        bus=bus,
        secret_file=secret,
        external=external,
        store=resolved(options.store, path.parent),
        counters=counters,
        sign_in=sign_in,
        proxy=proxy,
    )


if __name__ == "__main__":
    sys.exit(main())
