"""A stage with the whole path on it, but for workers: those a measurement starts itself."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from headrace.cli.demo import components, ports, site, ssh_server
from headrace.cli.demo import workspace as workspaces
from headrace.cli.demo.engines import EngineTable
from headrace.cli.setup import credentials, nats_conf
from headrace.cli.setup.site import SiteModel
from loadtests.bench.models import AT_HUB, NAMES
from loadtests.bench.stage import Stage

QUEUE_BYTES: Final = 4 << 30
"""A hundred thousand that wait must fit in."""


@asynccontextmanager
async def opened() -> AsyncIterator[Stage]:
    """Hub, leaf, the SSH connection between them, and an edge that offers every model.

    All of it ends with the context. Raises NotServing.
    """
    # Not in the checkout: sockets want short paths.
    with (
        tempfile.TemporaryDirectory(prefix="hr-bench-") as folder,
        workspaces.opened(Path(folder) / "d") as place,
    ):
        chosen = ports.choose(place.root / "ports.json", names=(*ports.NAMES, "api"))
        made = site.make(place, chosen, chosen["api"])
        made = msgspec.structs.replace(
            made, models=tuple(map(SiteModel, NAMES)), queue_bytes=QUEUE_BYTES
        )
        line = site.install(place, made, EngineTable(kind="command", command=("{socket}",)))
        near = msgspec.structs.replace(made, models=(), external=tuple(map(SiteModel, AT_HUB)))
        rights = nats_conf.hub(near, credentials.ensure(place.root, made))
        # They are asked by workers of the usual kind, which have another inbox.
        may, inbox = '["hr.ctl.>", "_INBOX.external.>"]', '["hr.ctl.>", "_INBOX.worker.>"]'
        assert rights.count(may) == 1
        rights = rights.replace(may, inbox)
        credentials.write_private(place.web / "hub.conf", rights)
        server = ssh_server.prepare(place.run, line, chosen["ssh"])
        async with AsyncExitStack() as stack:
            stage = Stage(place, made, components.all_of(place, made, server, []), stack)
            await stage.start("bridge", "sshd", "leaf", "hub")
            await stage.linked()
            await stage.start("edge")
            yield stage
