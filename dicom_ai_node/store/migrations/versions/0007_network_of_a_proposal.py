"""which network inferred a proposal; null where none did, and of all that were made before."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("proposal", sa.Column("model", sa.JSON(), nullable=True))
