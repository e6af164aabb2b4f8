"""what an archive answered and an audit leaves out, counted by reason; null before any was."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audit", sa.Column("not_audited", sa.JSON(), nullable=True))
