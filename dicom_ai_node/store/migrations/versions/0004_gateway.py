"""gateway: received images that go on to the next archive, which belong to no analysis."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("report", schema=None) as batch_op:
        batch_op.alter_column("analysis_id", existing_type=sa.Integer(), nullable=True)

    op.create_table(
        "forward",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
        sa.Column("report_id", sa.Integer(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["study.study_instance_uid"],
            name=op.f("fk_forward_study_instance_uid_study"),
        ),
        sa.ForeignKeyConstraint(
            ["report_id"], ["report.id"], name=op.f("fk_forward_report_id_report")
        ),
        sa.PrimaryKeyConstraint("sop_instance_uid", name=op.f("pk_forward")),
    )
    with op.batch_alter_table("forward", schema=None) as batch_op:
        batch_op.create_index(
            "ix_forward_waiting",
            ["received_at"],
            unique=False,
            sqlite_where=sa.text("report_id IS NULL"),
            postgresql_where=sa.text("report_id IS NULL"),
        )
