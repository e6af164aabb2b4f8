"""the first schema that databases in use have; what came before it was never released."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = None
branch_labels = None
depends_on = None

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def text(name: str, length: int | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.String(length) if length else sa.Text(), nullable=False)


def uid(name: str) -> sa.Column[str]:
    return text(name, 64)


def time(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float(), nullable=False)


def number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def maybe(name: str, kind: type[sa.types.TypeEngine[Any]]) -> sa.Column[Any]:
    return sa.Column(name, kind(), nullable=True)


def key(name: str = "id") -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), primary_key=True)


def index(name: str, *columns: str, where: str) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def table(name: str, *columns: sa.schema.SchemaItem) -> None:
    sa.Table(name, metadata, *columns)


table(
    "association",
    sa.Column("id", sa.String(64), primary_key=True),
    text("calling_ae", 16),
    text("address", 64),
    time("opened_at"),
    time("alive_until"),
)
table(
    "association_study",
    sa.Column("association_id", sa.String(64), primary_key=True),
    sa.Column("study_instance_uid", sa.String(64), primary_key=True),
    sa.Index("ix_association_study_study", "study_instance_uid"),
)
table(
    "destination",
    sa.Column("name", sa.String(64), primary_key=True),
    uid("sop_class_uid"),
    number("failures"),
    time("not_before"),
    maybe("contacted_at", sa.Float),
    text("error"),
)
table("quarantine", key(), time("at"), text("path"), text("calling_ae", 16), text("reason"))
table(
    "study",
    sa.Column("study_instance_uid", sa.String(64), primary_key=True),
    text("state", 16),
    text("reason_code", 64),
    text("reason"),
    number("revision"),
    maybe("flagged", sa.Boolean),
    time("first_at"),
    time("opened_at"),
    time("last_at"),
    time("closes_at"),
    time("not_before"),
    number("attempts"),
    text("lease_owner", 64),
    time("lease_until"),
    time("updated_at"),
    index("ix_study_claim", "not_before", where="state = 'ready'"),
    index("ix_study_closing", "closes_at", where="state = 'collecting'"),
    index("ix_study_lease", "lease_until", where="state = 'analysing'"),
    sa.Index("ix_study_updated", "updated_at"),
)
table(
    "study_header",
    sa.Column("study_instance_uid", sa.String(64), primary_key=True),
    text("patient_key", 64),
    text("study_date", 8),
    text("sex", 16),
    text("birth_date", 16),
    maybe("age_years", sa.Float),
    sa.Index("ix_study_header_patient", "patient_key"),
)
table(
    "worker",
    sa.Column("name", sa.String(64), primary_key=True),
    text("role", 16),
    number("pid"),
    time("started_at"),
    time("alive_at"),
)
table(
    "analysis",
    key(),
    uid("study_instance_uid"),
    text("result_key", 64),
    number("revision"),
    time("created_at"),
    sa.Column("result", sa.JSON(), nullable=False),
    sa.ForeignKeyConstraint(["study_instance_uid"], ["study.study_instance_uid"]),
    sa.UniqueConstraint("study_instance_uid", "result_key"),
)
table(
    "instance",
    key(),
    uid("sop_instance_uid"),
    text("digest", 64),
    number("version"),
    uid("study_instance_uid"),
    uid("series_instance_uid"),
    uid("sop_class_uid"),
    uid("transfer_syntax_uid"),
    text("path"),
    sa.Column("size", sa.BigInteger(), nullable=False),
    text("calling_ae", 16),
    text("association", 64),
    time("received_at"),
    flag("analysable"),
    maybe("dropped_at", sa.Float),
    sa.ForeignKeyConstraint(["study_instance_uid"], ["study.study_instance_uid"]),
    sa.UniqueConstraint("sop_instance_uid", "digest"),
    sa.Index("ix_instance_study", "study_instance_uid"),
)
table(
    "transition",
    key(),
    uid("study_instance_uid"),
    time("at"),
    text("event", 16),
    text("from_state", 16),
    text("to_state", 16),
    text("reason"),
    sa.ForeignKeyConstraint(["study_instance_uid"], ["study.study_instance_uid"]),
    sa.Index("ix_transition_study", "study_instance_uid"),
)
table(
    "report",
    key(),
    maybe("analysis_id", sa.Integer),
    uid("study_instance_uid"),
    text("kind", 8),
    text("quarantined"),
    sa.ForeignKeyConstraint(["analysis_id"], ["analysis.id"]),
    sa.Index("ix_report_study", "study_instance_uid"),
)
table(
    "delivery",
    key(),
    number("report_id"),
    uid("study_instance_uid"),
    text("destination", 64),
    text("state", 16),
    number("attempts"),
    time("not_before"),
    text("lease_owner", 64),
    time("lease_until"),
    time("created_at"),
    maybe("settled_at", sa.Float),
    uid("sop_class_uid"),
    uid("sop_instance_uid"),
    maybe("status", sa.Integer),
    text("error"),
    sa.ForeignKeyConstraint(["report_id"], ["report.id"]),
    sa.UniqueConstraint("report_id", "destination"),
    index("ix_delivery_lease", "lease_until", where="state = 'sending'"),
    index("ix_delivery_open", "destination", "not_before", where="state = 'queued'"),
    sa.Index("ix_delivery_study", "study_instance_uid"),
)
table(
    "report_file",
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    number("report_id"),
    uid("sop_class_uid"),
    number("position"),
    text("path"),
    sa.ForeignKeyConstraint(["report_id"], ["report.id"]),
    sa.Index("ix_report_file_report", "report_id"),
)
table(
    "audit",
    key(),
    sa.Column("spec", sa.JSON(), nullable=False),
    text("state", 16),
    number("slices_done"),
    flag("listing_done"),
    time("created_at"),
    time("updated_at"),
    maybe("finished_at", sa.Float),
    text("error"),
    text("lease_owner", 64),
    time("lease_until"),
)
table(
    "audit_study",
    sa.Column("audit_id", sa.Integer(), primary_key=True),
    sa.Column("study_key", sa.String(80), primary_key=True),
    number("position"),
    text("state", 16),
    number("attempts"),
    time("not_before"),
    sa.Column("listed", sa.JSON(), nullable=False),
    maybe("facts", sa.JSON),
    maybe("result", sa.JSON),
    maybe("expected", sa.Integer),
    maybe("arrived", sa.Integer),
    text("fault"),
    maybe("settled_at", sa.Float),
    sa.ForeignKeyConstraint(["audit_id"], ["audit.id"]),
    index(
        "ix_audit_study_waiting", "audit_id", "not_before", "position", where="state = 'waiting'"
    ),
)
table(
    "proposal",
    key(),
    uid("study_instance_uid"),
    text("keyword", 64),
    text("value", 64),
    text("source", 16),
    text("detail"),
    maybe("low", sa.Float),
    maybe("high", sa.Float),
    maybe("probability", sa.Float),
    sa.Column("rules", sa.JSON(), nullable=False),
    text("state", 16),
    time("created_at"),
    time("updated_at"),
    maybe("model", sa.JSON),
    sa.ForeignKeyConstraint(["study_instance_uid"], ["study.study_instance_uid"]),
    sa.Index("ix_proposal_study", "study_instance_uid"),
    sa.Index(
        "uq_proposal_live",
        "study_instance_uid",
        "keyword",
        unique=True,
        sqlite_where=sa.text("state IN ('open', 'accepted')"),
        postgresql_where=sa.text("state IN ('open', 'accepted')"),
    ),
)
table(
    "proposal_event",
    key(),
    number("proposal_id"),
    time("at"),
    text("actor", 128),
    text("from_state", 16),
    text("to_state", 16),
    text("reason"),
    sa.ForeignKeyConstraint(["proposal_id"], ["proposal.id"]),
    sa.Index("ix_proposal_event_proposal", "proposal_id"),
)
table(
    "observation",
    sa.Column("study_instance_uid", sa.String(64), primary_key=True),
    sa.Column("model_sha256", sa.String(64), primary_key=True),
    text("role", 8),
    time("received_at"),
    text("manufacturer", 64),
    text("model_name", 64),
    text("station", 64),
    text("software", 64),
    text("view", 16),
    text("sex", 1),
    maybe("age", sa.Float),
    maybe("mu", sa.Float),
    maybe("low90", sa.Float),
    maybe("high90", sa.Float),
    maybe("probability_female", sa.Float),
    text("outcome", 16),
    text("reason_code", 64),
    sa.ForeignKeyConstraint(["study_instance_uid"], ["study.study_instance_uid"]),
    sa.Index("ix_observation_received", "received_at"),
    sa.Index("ix_observation_model", "model_sha256", "received_at"),
)
table(
    "drift_reference",
    key(),
    text("model_sha256", 64),
    time("set_at"),
    number("begin"),
    number("end"),
    sa.Column("tally", sa.JSON(), nullable=False),
    sa.Index("ix_drift_reference_model", "model_sha256"),
)
table(
    "drift_flag",
    key(),
    text("model_sha256", 64),
    text("quantity", 16),
    number("end"),
    time("found_at"),
    text("text"),
    sa.UniqueConstraint("model_sha256", "quantity", "end"),
)
table(
    "mode_switch",
    key(),
    time("at"),
    text("mode", 8),
    text("actor", 128),
    text("reason"),
    flag("new_reference"),
)
table(
    "forward",
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    uid("study_instance_uid"),
    time("received_at"),
    maybe("report_id", sa.Integer),
    text("note"),
    sa.ForeignKeyConstraint(["study_instance_uid"], ["study.study_instance_uid"]),
    sa.ForeignKeyConstraint(["report_id"], ["report.id"]),
    index("ix_forward_waiting", "received_at", where="report_id IS NULL"),
)
table(
    "worklist_answer",
    sa.Column("study_instance_uid", sa.String(64), primary_key=True),
    text("digest", 64),
    time("asked_at"),
    text("verdict", 16),
    text("matched_by", 16),
    flag("other_patient"),
    text("birth_date", 8),
    text("sex", 1),
    text("age", 4),
    sa.ForeignKeyConstraint(["study_instance_uid"], ["study.study_instance_uid"]),
)
table(
    "stuck_fill",
    sa.Column("study_instance_uid", sa.String(64), primary_key=True),
    text("reason"),
    number("attempts"),
    time("tried_at"),
    time("not_before"),
    sa.ForeignKeyConstraint(["study_instance_uid"], ["study.study_instance_uid"]),
)


def upgrade() -> None:
    metadata.create_all(op.get_bind(), checkfirst=False)
