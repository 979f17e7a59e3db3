"""Who is signed in to the key page: rows by the digest of a cookie. Blocks."""

import secrets
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert, select

from headrace.gateway.policy import api_keys
from headrace.gateway.store import schema

BYTES: Final = 32
MAX_EACH: Final = 20
"""Sessions of one user at once; the oldest ends."""


class SignInSession(msgspec.Struct, frozen=True):
    """Somebody's."""

    user: str
    id_token: str
    """For signing out at the provider, too."""


def begin(
    connection: Connection, secret: bytes, user: str, id_token: str, *, now: float, seconds: float
) -> str:
    """A new session; what its cookie holds."""
    table = schema.sessions
    connection.execute(delete(table).where(table.c.expires <= now))
    own = select(table.c.digest).where(table.c.user == user).order_by(table.c.expires.desc())
    for (digest,) in connection.execute(own.offset(MAX_EACH - 1)).all():
        connection.execute(delete(table).where(table.c.digest == digest))
    token = secrets.token_urlsafe(BYTES)
    row = {
        "digest": _digest(secret, token), "user": user, "expires": now + seconds,
        "id_token": id_token,
    }  # fmt: skip
    connection.execute(insert(table), [row])
    return token


def find(connection: Connection, secret: bytes, token: str, now: float) -> SignInSession | None:
    """The session of a cookie, if it goes on, and its user is not shut out."""
    table, users = schema.sessions, schema.users
    row = connection.execute(
        select(table.c.user, table.c.id_token)
        .join(users, users.c.name == table.c.user)
        .where(
            table.c.digest == _digest(secret, token),
            table.c.expires > now,
            users.c.disabled.is_(False),
        )
    ).first()
    return None if row is None else SignInSession(row[0], row[1])


def end(connection: Connection, secret: bytes, token: str) -> None:
    """Sign out."""
    table = schema.sessions
    connection.execute(delete(table).where(table.c.digest == _digest(secret, token)))


def form_token(secret: bytes, token: str) -> str:
    """What a form of this session must bring: another site cannot know it."""
    return api_keys.digest(secret, f"form:{token}")


def _digest(secret: bytes, token: str) -> str:
    return api_keys.digest(secret, f"session:{token}")
