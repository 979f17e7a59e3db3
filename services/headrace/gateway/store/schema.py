"""The store's tables. Migrations make them; a test holds the two against each other.

Times are Unix seconds. Lists of names are JSON. Of the tables only `usage`, `counters` and
`in_flight` are written by requests, and never while a request waits for it.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

revision = Table(
    "revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
)
"""One row: counts every change that edges must know of."""

users = Table(
    "users",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("organisation", String(100), nullable=False, default=""),
    Column("disabled", Boolean, nullable=False, default=False),
    Column("created", Double, nullable=False),
)

groups = Table(
    "groups",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("models", JSON, nullable=False),
    Column("endpoints", JSON, nullable=False),
    Column("created", Double, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("user", String(200), ForeignKey("users.name", ondelete="CASCADE"), primary_key=True),
    Column("group", String(100), ForeignKey("groups.name", ondelete="CASCADE"), primary_key=True),
    Column("source", String(16), nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column(
        "owner", String(200), ForeignKey("users.name", ondelete="CASCADE"),
        nullable=False, index=True,
    ),
    Column("name", String(100), nullable=False, default=""),
    Column("groups", JSON, nullable=False),
    Column("models", JSON, nullable=False),
    Column("endpoints", JSON, nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double),
    Column("revoked", Double),
    Column("last_used", Double),
    Column("wait", String(32), nullable=False, default=""),
    Column("keepalive", String(16), nullable=False, default=""),
    Column("admin", Boolean, nullable=False, default=False),
    Column("replaces", String(64), nullable=False, default=""),
)  # fmt: skip

limits = Table(
    "limits",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("metric", String(16), primary_key=True),
    Column("window", String(16), primary_key=True),
    Column("each", Boolean, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

usage = Table(
    "usage",
    metadata,
    Column("request", String(32), primary_key=True),
    Column("at", Double, nullable=False),
    Column("day", Integer, nullable=False, index=True),
    Column("tenant", String(32), nullable=False, index=True),
    Column("organisation", String(100), nullable=False),
    Column("group", String(100), nullable=False),
    Column("model", String(200), nullable=False),
    Column("cluster", String(64), nullable=False),
    Column("endpoint", String(32), nullable=False),
    Column("status", Integer, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("queue_seconds", Double, nullable=False),
    Column("first_seconds", Double, nullable=False),
    Column("total_seconds", Double, nullable=False),
    Column("gpu_seconds", Double, nullable=False),
    Column("cost", BigInteger, nullable=False, server_default="0"),
)
"""One row per request: who is a pseudonym, and there is no content. `day` counts from 1970, UTC."""

counters = Table(
    "counters",
    metadata,
    Column("name", String(600), primary_key=True),
    Column("window", BigInteger, primary_key=True),
    Column("ends", Double, nullable=False, index=True),
    Column("value", BigInteger, nullable=False),
)
"""What was counted against limits, in windows of time, by all edges together."""

in_flight = Table(
    "in_flight",
    metadata,
    Column("edge", String(32), primary_key=True),
    Column("name", String(600), primary_key=True),
    Column("value", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Index(None, "at"),
)
"""What each edge has under way, where a limit asks for it."""

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False, index=True),
    Column("who", String(200), nullable=False),
    Column("via", String(16), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", String(300), nullable=False),
    Column("detail", JSON, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column(
        "user", String(200), ForeignKey("users.name", ondelete="CASCADE"),
        nullable=False, index=True,
    ),
    Column("expires", Double, nullable=False, index=True),
    Column("id_token", String, nullable=False),
)  # fmt: skip
"""Who is signed in to the key page, by the digest of their cookie."""
