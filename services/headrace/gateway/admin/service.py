"""All desks together, for whoever acts."""

import time
from collections.abc import Callable, Collection

from headrace.gateway.admin.action import Actor
from headrace.gateway.admin.groups import GroupActions
from headrace.gateway.admin.keys import KeyActions
from headrace.gateway.admin.limits import LimitActions
from headrace.gateway.admin.users import UserActions
from headrace.gateway.store.database import Database


class AdminService:
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
        self.people = UserActions(database, secret, actor, clock)
        self.groups = GroupActions(database, secret, actor, clock)
        self.keys = KeyActions(database, secret, actor, clock)
        self.limits = LimitActions(database, secret, actor, clock)

    @property
    def acted(self) -> bool:
        """Whether anything was changed at these desks."""
        return any(desk.acted for desk in (self.people, self.groups, self.keys, self.limits))
