"""The first version of the store."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table, and the group that all are in."""
    op.create_table(
        "revision",
        sa.Column("id", sa.Integer, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_revision"),
    )
    op.create_table(
        "users",
        sa.Column("name", sa.String(200)),
        sa.Column("organisation", sa.String(100), nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_users"),
    )
    groups = op.create_table(
        "groups",
        sa.Column("name", sa.String(100)),
        sa.Column("models", sa.JSON, nullable=False),
        sa.Column("endpoints", sa.JSON, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_groups"),
    )
    op.create_table(
        "members",
        sa.Column("user", sa.String(200)),
        sa.Column("group", sa.String(100)),
        sa.Column("source", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("user", "group", name="pk_members"),
        sa.ForeignKeyConstraint(
            ["user"], ["users.name"], name="fk_members_user", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["group"], ["groups.name"], name="fk_members_group", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(64)),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("groups", sa.JSON, nullable=False),
        sa.Column("models", sa.JSON, nullable=False),
        sa.Column("endpoints", sa.JSON, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double),
        sa.Column("revoked", sa.Double),
        sa.Column("last_used", sa.Double),
        sa.Column("wait", sa.String(32), nullable=False),
        sa.Column("keepalive", sa.String(16), nullable=False),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("replaces", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("digest", name="uq_keys_digest"),
        sa.ForeignKeyConstraint(
            ["owner"], ["users.name"], name="fk_keys_owner", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_keys_owner", "keys", ["owner"])
    op.create_table(
        "limits",
        sa.Column("kind", sa.String(16)),
        sa.Column("name", sa.String(200)),
        sa.Column("model", sa.String(200)),
        sa.Column("metric", sa.String(16)),
        sa.Column("window", sa.String(16)),
        sa.Column("each", sa.Boolean),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "kind", "name", "model", "metric", "window", "each", name="pk_limits"
        ),
    )
    _accounts()
    _others()
    op.bulk_insert(groups, [{"name": "everyone", "models": ["*"], "endpoints": [], "created": 0.0}])
    op.execute("INSERT INTO revision (id, number) VALUES (1, 1)")


def _accounts() -> None:
    op.create_table(
        "usage",
        sa.Column("request", sa.String(32)),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("organisation", sa.String(100), nullable=False),
        sa.Column("group", sa.String(100), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("cluster", sa.String(64), nullable=False),
        sa.Column("endpoint", sa.String(32), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("queue_seconds", sa.Double, nullable=False),
        sa.Column("first_seconds", sa.Double, nullable=False),
        sa.Column("total_seconds", sa.Double, nullable=False),
        sa.Column("gpu_seconds", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("request", name="pk_usage"),
    )
    op.create_index("ix_usage_day", "usage", ["day"])
    op.create_index("ix_usage_tenant", "usage", ["tenant"])
    op.create_table(
        "counters",
        sa.Column("name", sa.String(600)),
        sa.Column("window", sa.BigInteger),
        sa.Column("ends", sa.Double, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", "window", name="pk_counters"),
    )
    op.create_index("ix_counters_ends", "counters", ["ends"])
    op.create_table(
        "in_flight",
        sa.Column("edge", sa.String(32)),
        sa.Column("name", sa.String(600)),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("edge", "name", name="pk_in_flight"),
    )
    op.create_index("ix_in_flight_at", "in_flight", ["at"])


def _others() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, autoincrement=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("via", sa.String(16), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.String(300), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_table(
        "sessions",
        sa.Column("digest", sa.String(64)),
        sa.Column("user", sa.String(200), nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("id_token", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_sessions"),
        sa.ForeignKeyConstraint(
            ["user"], ["users.name"], name="fk_sessions_user", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_sessions_user", "sessions", ["user"])
    op.create_index("ix_sessions_expires", "sessions", ["expires"])
