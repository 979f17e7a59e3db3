"""Groups: made, changed, removed."""

import time
from collections.abc import Collection

import msgspec
from sqlalchemy import Connection, delete, insert, update

from headrace.gateway.admin.action import AdminError, AuditedActions, RefusalReason, given
from headrace.gateway.policy import names
from headrace.gateway.policy.records import EVERYONE, Group, SubjectKind
from headrace.gateway.store import queries, schema


class GroupActions(AuditedActions):
    """The desk for groups."""

    def put(
        self,
        name: str,
        *,
        models: Collection[str] | None = None,
        endpoints: Collection[str] | None = None,
        create: bool = True,
    ) -> Group:
        """Make or change a group; what is None stays. A new one may use nothing."""
        said = given(models=models, endpoints=endpoints)
        with self.act("group.put", name, said) as connection:
            ensure(connection, name, create=create, now=self.clock())
            old = msgspec.to_builtins(queries.groups(connection, name)[0])
            group = msgspec.convert(old | {key: list(each) for key, each in said.items()}, Group)
            values = msgspec.to_builtins(group)
            where = schema.groups.c.name == values.pop("name")
            connection.execute(update(schema.groups).where(where).values(values))
            return group

    def delete(self, name: str) -> None:
        """Remove a group and its limits. A key that is narrowed to it alone opens nothing then."""
        if name == EVERYONE:
            raise AdminError(
                RefusalReason.INVALID, f"{EVERYONE} stays: take its models away instead"
            )
        with self.act("group.delete", name, {}) as connection:
            groups, limits = schema.groups, schema.limits
            if not connection.execute(delete(groups).where(groups.c.name == name)).rowcount:
                raise AdminError(RefusalReason.MISSING, f"there is no group {name!r}")
            on = (limits.c.kind == SubjectKind.GROUP, limits.c.name == name)
            connection.execute(delete(limits).where(*on))


def ensure(connection: Connection, name: str, *, create: bool, now: float | None = None) -> None:
    """See to it that there is a group of this name. Raises AdminError and ValueError."""
    if queries.groups(connection, names.group(name)):
        return
    if not create:
        raise AdminError(RefusalReason.MISSING, f"there is no group {name!r}")
    row = {"name": name, "models": [], "endpoints": [], "created": now or time.time()}
    connection.execute(insert(schema.groups), [row])
