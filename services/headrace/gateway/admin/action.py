"""What every act of administration goes through: one transaction, noted in the audit log, and told
to the edges.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, update

from headrace.gateway.store import schema
from headrace.gateway.store.database import Database


class RefusalReason(StrEnum):
    """Why an act was refused."""

    INVALID = "invalid"
    MISSING = "missing"
    FORBIDDEN = "forbidden"


class AdminError(Exception):
    """An act that can't be; the text is for whoever asked for it."""

    def __init__(self, why: RefusalReason, text: str) -> None:
        super().__init__(text)
        self.why = why


class Actor(msgspec.Struct, frozen=True):
    """Who acts: a user, the id of a key, or an account of the machine; and through what."""

    who: str
    via: str
    """``cli``, ``api``, ``page`` or ``sign-in``."""


class AuditedActions:
    """Acts in the name of an `actor`. Methods block; they raise AdminError and StoreError."""

    def __init__(
        self,
        database: Database,
        secret: bytes,
        actor: Actor,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.secret = secret
        self.actor = actor
        self.clock = clock
        self.acted = False
        """Whether anything was changed here."""

    @contextmanager
    def act(self, action: str, target: str, detail: object) -> Iterator[Connection]:
        """A transaction that is noted as `action` on `target`, with what was asked for."""
        try:
            with self.database.write() as connection:
                yield connection
                self.note(connection, action, target, detail)
                bump(connection)
            self.acted = True
        except ValueError as error:  # msgspec's are of this kind too
            raise AdminError(RefusalReason.INVALID, str(error)) from None

    def note(self, connection: Connection, action: str, target: str, detail: object) -> None:
        """Write a line of the audit log."""
        row = {
            "at": self.clock(),
            "who": self.actor.who[:200],
            "via": self.actor.via,
            "action": action,
            "target": target[:300],
            "detail": msgspec.to_builtins(detail),
        }
        connection.execute(insert(schema.audit), [row])


def bump(connection: Connection) -> None:
    """Tell the edges that something has changed, with the rest of the transaction."""
    number = schema.revision.c.number
    connection.execute(update(schema.revision).values(number=number + 1))


def given(**fields: Any) -> dict[str, Any]:
    """The fields that were said: those that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
