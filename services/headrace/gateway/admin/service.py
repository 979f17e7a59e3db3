"""All desks together, for whoever acts."""

import time
from collections.abc import Callable, Collection

from headrace.gateway.admin.action import Actor
from headrace.gateway.admin.groups import Groups
from headrace.gateway.admin.keys import Keys
from headrace.gateway.admin.limits import Limits
from headrace.gateway.admin.users import People
from headrace.gateway.store.database import Database


class Office:
    """The desks of one `actor`."""

    def __init__(
        self,
        database: Database,
        secret: bytes,
        actor: Actor,
        clock: Callable[[], float] = time.time,
        static: Collection[str] = (),
    ) -> None:
        self.database = database
        self.static = static
        """Ids of keys that are not in the store."""
        self.people = People(database, secret, actor, clock)
        self.groups = Groups(database, secret, actor, clock)
        self.keys = Keys(database, secret, actor, clock)
        self.limits = Limits(database, secret, actor, clock)

    @property
    def acted(self) -> bool:
        """Whether anything was changed at these desks."""
        return any(desk.acted for desk in (self.people, self.groups, self.keys, self.limits))
