"""The tables. Times are seconds since the epoch, UTC; enumerations are stored as their text.

The two queues (studies to analyse, deliveries to send) have partial indexes over what is open, so
that the cost of a claim does not grow with the number of finished rows; so has what retention is to
remove one day. A state that such an index is about stands in a query as :func:`word`. What is
counted over all that ever was is kept in ``tally``, by triggers of migration 0014: a later one that
replaces a table of SQLite (``batch_alter_table``) has to make its triggers again.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

UID = String(64)


def columns(kind: Any, *names: str, **options: Any) -> list[Column[Any]]:
    """Return columns of one kind that always have a value."""
    return [Column(name, kind, nullable=False, **options) for name in names]


def partial_index(name: str, *of: str, where: str, unique: bool = False) -> Index:
    """Return an index of the rows alone in which ``where`` holds."""
    only = text(where)
    return Index(name, *of, unique=unique, sqlite_where=only, postgresql_where=only)


def word(state: StrEnum) -> ColumnElement[str]:
    """Return a state as it stands in the statement, where a plan is made before it is bound."""
    return literal_column(f"'{state}'", String)


study = Table(
    "study",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("reason_code", String(64), nullable=False, default=""),
    Column("reason", Text, nullable=False, default=""),
    Column("revision", Integer, nullable=False, default=1),
    Column("flagged", Boolean),
    *columns(Float, "first_at", "opened_at", "last_at", "closes_at"),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("lease_owner", String(64), nullable=False, default=""),
    Column("lease_until", Float, nullable=False, default=0.0),
    Column("updated_at", Float, nullable=False),
    Column("trimmed_at", Float),
    partial_index("ix_study_closing", "closes_at", where="state = 'collecting'"),
    partial_index("ix_study_claim", "not_before", "last_at", where="state = 'ready'"),
    partial_index("ix_study_lease", "lease_until", where="state = 'analysing'"),
    partial_index("ix_study_withheld", "study_instance_uid", where="reason_code = 'withheld'"),
    partial_index(
        "ix_study_done",
        "updated_at",
        where="state IN ('delivered', 'skipped') AND trimmed_at IS NULL",
    ),
    Index("ix_study_newest", "first_at", "study_instance_uid"),
    partial_index(
        "ix_study_listed",
        *("state", "flagged", "first_at", "study_instance_uid"),
        where="state IN ('reported', 'delivered', 'undelivered', 'skipped', 'failed')",
    ),
)

transition = Table(
    "transition",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_instance_uid", UID, ForeignKey(study.c.study_instance_uid), nullable=False),
    Column("at", Float, nullable=False),
    *columns(String(16), "event", "from_state", "to_state"),
    Column("reason", Text, nullable=False, default=""),
    Index("ix_transition_study", "study_instance_uid"),
)

association = Table(
    "association",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("calling_ae", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    *columns(Float, "opened_at", "alive_until"),
)

association_study = Table(
    "association_study",
    metadata,
    Column("association_id", String(64), primary_key=True),
    Column("study_instance_uid", UID, primary_key=True),
    Index("ix_association_study_study", "study_instance_uid"),
)

instance = Table(
    "instance",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sop_instance_uid", UID, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("study_instance_uid", UID, ForeignKey(study.c.study_instance_uid), nullable=False),
    *columns(UID, "series_instance_uid", "sop_class_uid", "transfer_syntax_uid"),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("calling_ae", String(16), nullable=False),
    Column("association", String(64), nullable=False),
    Column("received_at", Float, nullable=False),
    Column("analysable", Boolean, nullable=False),
    Column("dropped_at", Float),
    UniqueConstraint("sop_instance_uid", "digest"),
    Index("ix_instance_study", "study_instance_uid"),
    Index("ix_instance_digest", "digest"),
    partial_index("ix_instance_kept", "study_instance_uid", where="dropped_at IS NULL"),
)

study_header = Table(
    "study_header",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("patient_key", String(64), nullable=False),
    Column("study_date", String(8), nullable=False),
    *columns(String(16), "sex", "birth_date"),
    Column("age_years", Float),
    Index("ix_study_header_patient", "patient_key"),
)

study_chest = Table(
    "study_chest",
    metadata,
    Column("study_instance_uid", UID, ForeignKey(study.c.study_instance_uid), primary_key=True),
    Column("space", String(64), nullable=False),
    Column("embedding", JSON, nullable=False),
)

analysis = Table(
    "analysis",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_instance_uid", UID, ForeignKey(study.c.study_instance_uid), nullable=False),
    Column("result_key", String(64), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("result", JSON, nullable=False),
    UniqueConstraint("study_instance_uid", "result_key"),
)

report = Table(
    "report",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("analysis_id", Integer, ForeignKey(analysis.c.id)),
    Column("study_instance_uid", UID, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("quarantined", Text, nullable=False, default=""),
    Index("ix_report_study", "study_instance_uid"),
    Index("ix_report_analysis", "analysis_id"),
)

report_file = Table(
    "report_file",
    metadata,
    Column("sop_instance_uid", UID, primary_key=True),
    Column("report_id", Integer, ForeignKey(report.c.id), nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("position", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Index("ix_report_file_report", "report_id"),
    partial_index("ix_report_file_kept", "report_id", where="path <> ''"),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("report_id", Integer, ForeignKey(report.c.id), nullable=False),
    Column("study_instance_uid", UID, nullable=False),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("lease_owner", String(64), nullable=False, default=""),
    Column("lease_until", Float, nullable=False, default=0.0),
    Column("created_at", Float, nullable=False),
    Column("settled_at", Float),
    *columns(UID, "sop_class_uid", "sop_instance_uid", default=""),
    Column("status", Integer),
    Column("error", Text, nullable=False, default=""),
    UniqueConstraint("report_id", "destination"),
    partial_index("ix_delivery_open", "destination", "not_before", "id", where="state = 'queued'"),
    partial_index("ix_delivery_lease", "lease_until", where="state = 'sending'"),
    partial_index("ix_delivery_dead", "study_instance_uid", where="state = 'dead'"),
    Index("ix_delivery_study", "study_instance_uid"),
)

forward = Table(
    "forward",
    metadata,
    Column("sop_instance_uid", UID, primary_key=True),
    Column("study_instance_uid", UID, ForeignKey(study.c.study_instance_uid), nullable=False),
    Column("received_at", Float, nullable=False),
    Column("report_id", Integer, ForeignKey(report.c.id)),
    Column("note", Text, nullable=False, default=""),
    partial_index(
        "ix_forward_waiting", "study_instance_uid", "received_at", where="report_id IS NULL"
    ),
    Index("ix_forward_study", "study_instance_uid"),
)

destination = Table(
    "destination",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("sop_class_uid", UID, nullable=False, default=""),
    Column("failures", Integer, nullable=False, default=0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("contacted_at", Float),
    Column("error", Text, nullable=False, default=""),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("path", Text, nullable=False),
    Column("calling_ae", String(16), nullable=False),
    Column("reason", Text, nullable=False),
)

worker = Table(
    "worker",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("pid", Integer, nullable=False),
    *columns(Float, "started_at", "alive_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("spec", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("slices_done", Integer, nullable=False, default=0),
    Column("listing_done", Boolean, nullable=False, default=False),
    *columns(Float, "created_at", "updated_at"),
    Column("finished_at", Float),
    Column("error", Text, nullable=False, default=""),
    Column("lease_owner", String(64), nullable=False, default=""),
    Column("lease_until", Float, nullable=False, default=0.0),
    Column("not_audited", JSON),
)

audit_study = Table(
    "audit_study",
    metadata,
    Column("audit_id", Integer, ForeignKey(audit.c.id), primary_key=True),
    Column("study_key", String(80), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("listed", JSON, nullable=False),
    Column("facts", JSON),
    Column("result", JSON),
    Column("expected", Integer),
    Column("arrived", Integer),
    Column("fault", Text, nullable=False, default=""),
    Column("settled_at", Float),
    Column("embedding", JSON(none_as_null=True)),
    partial_index(
        "ix_audit_study_waiting", "audit_id", "not_before", "position", where="state = 'waiting'"
    ),
)

worklist_answer = Table(
    "worklist_answer",
    metadata,
    Column("study_instance_uid", UID, ForeignKey(study.c.study_instance_uid), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("asked_at", Float, nullable=False),
    *columns(String(16), "verdict", "matched_by"),
    Column("other_patient", Boolean, nullable=False),
    Column("birth_date", String(8), nullable=False),
    Column("sex", String(1), nullable=False),
    Column("age", String(4), nullable=False),
)

proposal = Table(
    "proposal",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_instance_uid", UID, ForeignKey(study.c.study_instance_uid), nullable=False),
    *columns(String(64), "keyword", "value"),
    Column("source", String(16), nullable=False),
    Column("detail", Text, nullable=False, default=""),
    Column("low", Float),
    Column("high", Float),
    Column("probability", Float),
    Column("rules", JSON, nullable=False),
    Column("model", JSON(none_as_null=True)),
    Column("recorded", Text, nullable=False, default=""),
    Column("station", String(64), nullable=False, default=""),
    Column("state", String(16), nullable=False),
    *columns(Float, "created_at", "updated_at"),
    Index("ix_proposal_study", "study_instance_uid"),
    Index("ix_proposal_state", "state", "id"),
    partial_index(
        "uq_proposal_live",
        "study_instance_uid",
        "keyword",
        unique=True,
        where="state IN ('open', 'accepted')",
    ),
)

proposal_event = Table(
    "proposal_event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("proposal_id", Integer, ForeignKey(proposal.c.id), nullable=False),
    Column("at", Float, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("account", String(128), nullable=False, default=""),
    *columns(String(16), "from_state", "to_state"),
    Column("reason", Text, nullable=False, default=""),
    Index("ix_proposal_event_proposal", "proposal_id"),
)

stuck_fill = Table(
    "stuck_fill",
    metadata,
    Column("study_instance_uid", UID, ForeignKey(study.c.study_instance_uid), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    *columns(Float, "tried_at", "not_before"),
)

observation = Table(
    "observation",
    metadata,
    Column("study_instance_uid", UID, ForeignKey(study.c.study_instance_uid), primary_key=True),
    Column("model_sha256", String(64), primary_key=True),
    Column("role", String(8), nullable=False),
    Column("received_at", Float, nullable=False),
    *columns(String(64), "manufacturer", "model_name", "station", "software"),
    *columns(String(16), "view", "outcome"),
    Column("reason_code", String(64), nullable=False),
    Column("gate", String(32), nullable=False, default=""),
    *columns(JSON, "recorded", "heads"),
    Column("measured", JSON(none_as_null=True)),
    Index("ix_observation_received", "received_at"),
    Index("ix_observation_model", "model_sha256", "received_at"),
)

drift_reference = Table(
    "drift_reference",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model_sha256", String(64), nullable=False),
    Column("set_at", Float, nullable=False),
    *columns(Integer, "begin", "end"),
    Column("tally", JSON, nullable=False),
    Index("ix_drift_reference_model", "model_sha256"),
)

drift_flag = Table(
    "drift_flag",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model_sha256", String(64), nullable=False),
    Column("quantity", Text, nullable=False),
    Column("end", Integer, nullable=False),
    Column("found_at", Float, nullable=False),
    Column("text", Text, nullable=False),
    UniqueConstraint("model_sha256", "quantity", "end"),
)

mode_switch = Table(
    "mode_switch",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("mode", String(8), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("account", String(128), nullable=False, default=""),
    Column("reason", Text, nullable=False),
    Column("new_reference", Boolean, nullable=False),
)

node_value = Table(
    "node_value",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("at", Float, nullable=False),
    Column("value", Text, nullable=False),
)

tally = Table(
    "tally",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("state", String(16), primary_key=True),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
)
