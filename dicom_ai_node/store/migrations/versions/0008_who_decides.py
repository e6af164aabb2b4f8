"""the account of a decision; the recorded value and the station of a proposal. '' in older rows."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("proposal_event", "mode_switch"):
        op.add_column(
            table, sa.Column("account", sa.String(length=128), nullable=False, server_default="")
        )
    op.add_column("proposal", sa.Column("recorded", sa.Text(), nullable=False, server_default=""))
    op.add_column(
        "proposal", sa.Column("station", sa.String(length=64), nullable=False, server_default="")
    )
