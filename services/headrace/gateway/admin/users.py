"""People: made, changed, signed in, erased."""

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, delete, insert, update

from headrace.gateway.admin.action import AdminError, AuditedActions, RefusalReason, bump, given
from headrace.gateway.policy import names
from headrace.gateway.policy.records import EVERYONE, Source, User
from headrace.gateway.store import erasure, queries, schema


class UserActions(AuditedActions):
    """The desk for people."""

    def put(
        self,
        name: str,
        *,
        organisation: str | None = None,
        disabled: bool | None = None,
        join: Iterable[str] = (),
        leave: Iterable[str] = (),
        create: bool = True,
    ) -> User:
        """Make or change a user; what is None stays. Groups to join must be there."""
        join, leave = tuple(join), tuple(leave)
        said = given(organisation=organisation, disabled=disabled)
        with self.act("user.put", name, said | {"join": join, "leave": leave}) as connection:
            ensure(connection, name, create=create, now=self.clock())
            if said:
                names.label(organisation or "")
                table = schema.users
                connection.execute(update(table).where(table.c.name == name).values(said))
            for group in join:
                self._must_be(connection, group)
                add(connection, name, group, Source.HAND)
            for group in leave:
                remove(connection, name, group)
            return get(connection, name)

    def sign_in(self, name: str, organisation: str, groups: Collection[str]) -> User:
        """Take in what the identity provider says of somebody who signs in.

        Groups of an earlier sign-in that it does not name any more are left, and those that are
        not there are not made: what a group may do is said here.
        """
        with self.database.write() as connection:
            before = queries.users(connection, name)
            if before and before[0].disabled:
                raise AdminError(RefusalReason.FORBIDDEN, "this user is disabled")
            try:
                ensure(connection, name, create=True, now=self.clock())
                names.label(organisation)
            except ValueError as error:
                raise AdminError(RefusalReason.INVALID, str(error)) from None
            table = schema.users
            connection.execute(
                update(table).where(table.c.name == name).values(organisation=organisation)
            )
            self._follow(connection, name, set(groups))
            after = get(connection, name)
            if not before or after != before[0]:
                told = {"organisation": organisation, "groups": after.groups}
                self.note(connection, "user.sign-in", name, told)
                bump(connection)
            return after

    def erase(self, name: str) -> dict[str, int]:
        """Remove a person and all that is known of them; the number of rows by what they were.

        The act is noted, but not whom it was about.
        """
        with self.act("user.erase", erasure.ERASED, {}) as connection:
            get(connection, name)
            return erasure.erase(connection, self.secret, name)

    def _follow(self, connection: Connection, name: str, groups: set[str]) -> None:
        there = {group.name for group in queries.groups(connection)} - {EVERYONE}
        sources = queries.sources(connection, name)
        for group, source in sources.items():
            if source is Source.SIGN_IN and group not in groups:
                remove(connection, name, group)
        for group in groups & there - sources.keys():
            add(connection, name, group, Source.SIGN_IN)

    @staticmethod
    def _must_be(connection: Connection, group: str) -> None:
        if group == EVERYONE:
            raise AdminError(RefusalReason.INVALID, f"every user is in {EVERYONE}")
        if not queries.groups(connection, names.group(group)):
            raise AdminError(RefusalReason.MISSING, f"there is no group {group!r}")


def ensure(connection: Connection, name: str, *, create: bool, now: float) -> None:
    """See to it that there is a user of this name. Raises AdminError and ValueError."""
    if queries.users(connection, names.user(name)):
        return
    if not create:
        raise AdminError(RefusalReason.MISSING, f"there is no user {name!r}")
    row = {"name": name, "organisation": "", "disabled": False, "created": now}
    connection.execute(insert(schema.users), [row])


def get(connection: Connection, name: str) -> User:
    """The user of this name. Raises AdminError."""
    found = queries.users(connection, name)
    if not found:
        raise AdminError(RefusalReason.MISSING, f"there is no user {name!r}")
    return found[0]


def add(connection: Connection, user: str, group: str, source: Source) -> None:
    """Put somebody in a group. An administrator's word stands over the provider's."""
    known = queries.sources(connection, user).get(group)
    members = schema.members
    if known is None:
        row = {"user": user, "group": group, "source": source}
        connection.execute(insert(members), [row])
    elif source is Source.HAND:
        where = (members.c.user == user, members.c.group == group)
        connection.execute(update(members).where(*where).values(source=source))


def remove(connection: Connection, user: str, group: str) -> None:
    """Take somebody out of a group."""
    members = schema.members.c
    connection.execute(delete(schema.members).where(members.user == user, members.group == group))
