"""chests of studies, by which those of one patient are compared: live and in an audit.

Both stay empty unless ``model.compare_chests`` is set.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "study_chest",
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("space", sa.String(64), nullable=False),
        sa.Column("embedding", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["study.study_instance_uid"],
            name="fk_study_chest_study_instance_uid_study",
        ),
        sa.PrimaryKeyConstraint("study_instance_uid", name="pk_study_chest"),
    )
    op.add_column("audit_study", sa.Column("embedding", sa.JSON(none_as_null=True)))
