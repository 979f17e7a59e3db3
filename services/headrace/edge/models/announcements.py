"""What clusters announce: a plan makes its model appear, as soon as its queue is there."""

import asyncio
from typing import Final

from headrace.edge.metrics import EdgeMetrics
from headrace.edge.models.registry import ModelRegistry
from headrace.protocol import codec, subjects
from headrace.protocol.errors import HeadraceError
from headrace.protocol.names import Slug
from headrace.runtime.logging import Logger
from headrace.runtime.nats.bus import BusError, Message
from headrace.runtime.nats.jetstream import JetStream, JetStreamError

RETRY_SECONDS: Final = 0.5


class Announcements:
    """Takes plans in."""

    def __init__(
        self, models: ModelRegistry, jetstream: JetStream, *, metrics: EdgeMetrics, log: Logger
    ) -> None:
        self._models = models
        self._jetstream = jetstream
        self._metrics = metrics
        self._log = log
        self._new = asyncio.Event()
        self._told = ""
        self._time = asyncio.get_running_loop().time

    def on_plan(self, message: Message) -> None:
        """The bus's callback for plans."""
        try:
            plan = codec.decode_plan(message.data)
        except HeadraceError:
            self._metrics.bad_messages.inc()
            return
        if message.subject != subjects.plan(Slug(plan.cluster), Slug(plan.model)):
            # A cluster's permissions are on subjects: what is in the message must not say more.
            self._metrics.bad_messages.inc()
            return
        known = self._models.by_slug(plan.model)
        listed = known is not None and known.listed
        if self._models.announce(plan, self._time()) is not None:
            self._new.set()
        refused, self._models.refused = self._models.refused, ""
        if refused and refused != self._told:
            self._log.warning("model_refused", model=refused, cluster=plan.cluster)
            self._told = refused  # it comes again every few seconds
        if known is not None and listed and not known.listed:
            self._log.info("model_removed", model=known.slug, cluster=plan.cluster)

    async def run(self) -> None:
        """Make the queues of new models, and list them, for ever."""
        while True:
            await self._new.wait()
            self._new.clear()
            try:
                for model in self._models.known():
                    if not model.listed and not model.removed:
                        await self._jetstream.ensure_consumers(model.slug)
                        self._models.show(model)
                        self._log.info("model_listed", model=model.slug)
            except (JetStreamError, BusError):
                self._new.set()
                await asyncio.sleep(RETRY_SECONDS)
