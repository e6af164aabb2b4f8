"""what the network says of an observed image before calibration; null where that was not kept."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("observation", sa.Column("measured", sa.JSON(), nullable=True))
