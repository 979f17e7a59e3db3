"""What requests for external models cost."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Rows from before are of the site's own models, which cost nothing."""
    column = sa.Column("cost", sa.BigInteger, nullable=False, server_default="0")
    op.add_column("usage", column)
