"""what costs the same however many studies are done: indices of lists and queues, and counters.

Triggers keep ``tally``: how many rows there are of each kind, name and state. On PostgreSQL each
session counts in rows of its own (``shard``), so that no two wait for each other.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_COUNTED = {
    # table: (name, state), as expressions over {row}
    "study": ("''", "{row}.state"),
    "delivery": ("{row}.destination", "{row}.state"),
    "instance": ("''", "CASE WHEN {row}.dropped_at IS NULL THEN 'kept' ELSE 'dropped' END"),
    "report": (
        "{row}.kind",
        "CASE WHEN {row}.quarantined = '' THEN 'valid' ELSE 'invalid' END",
    ),
    "observation": ("{row}.model_sha256", "{row}.role"),
    "quarantine": ("''", "''"),
}
_CHANGES = {
    # table: (column, condition), of those that are counted under another state later
    "study": ("state", "old.state <> new.state"),
    "delivery": ("state", "old.state <> new.state"),
    "instance": ("dropped_at", "(old.dropped_at IS NULL) <> (new.dropped_at IS NULL)"),
    "observation": ("role", "old.role <> new.role"),
}


def upgrade() -> None:
    _tables()
    bind = op.get_bind()
    for table, (name, state) in _COUNTED.items():
        name, state = name.format(row=table), state.format(row=table)
        op.execute(
            f"INSERT INTO tally (kind, name, state, shard, count)"
            f" SELECT '{table}', {name}, {state}, 0, count(*) FROM {table} GROUP BY 2, 3"
        )
    if bind.dialect.name == "sqlite":
        _sqlite()
        # Statistics that mislead: what is open, and is looked for, was hardly there when they were
        # made. Without any, plans follow from the schema.
        op.execute("DROP TABLE IF EXISTS sqlite_stat1")
        op.execute("DROP TABLE IF EXISTS sqlite_stat4")
    else:
        _postgresql()


def _tables() -> None:
    op.add_column("study", sa.Column("trimmed_at", sa.Float(), nullable=True))
    op.create_table(
        "tally",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", "state", "shard", name="pk_tally"),
    )
    for name, table in (
        ("ix_study_claim", "study"),
        ("ix_study_updated", "study"),
        ("ix_delivery_open", "delivery"),
        ("ix_forward_waiting", "forward"),
    ):
        op.drop_index(name, table)
    done = "state IN ('delivered', 'skipped') AND trimmed_at IS NULL"
    ended = "state IN ('reported', 'delivered', 'undelivered', 'skipped', 'failed')"
    waiting = ["study_instance_uid", "received_at"]
    listed = ["state", "flagged", "first_at", "study_instance_uid"]
    for name, table, columns, where in (
        ("ix_study_claim", "study", ["not_before", "last_at"], "state = 'ready'"),
        ("ix_study_withheld", "study", ["study_instance_uid"], "reason_code = 'withheld'"),
        ("ix_study_done", "study", ["updated_at"], done),
        ("ix_study_newest", "study", ["first_at", "study_instance_uid"], ""),
        ("ix_study_listed", "study", listed, ended),
        ("ix_instance_kept", "instance", ["study_instance_uid"], "dropped_at IS NULL"),
        ("ix_report_file_kept", "report_file", ["report_id"], "path <> ''"),
        ("ix_delivery_open", "delivery", ["destination", "not_before", "id"], "state = 'queued'"),
        ("ix_delivery_dead", "delivery", ["study_instance_uid"], "state = 'dead'"),
        ("ix_report_analysis", "report", ["analysis_id"], ""),
        ("ix_forward_waiting", "forward", waiting, "report_id IS NULL"),
        ("ix_forward_study", "forward", ["study_instance_uid"], ""),
        ("ix_proposal_state", "proposal", ["state", "id"], ""),
    ):
        only = sa.text(where) if where else None
        op.create_index(name, table, columns, sqlite_where=only, postgresql_where=only)


def _add(table: str, row: str, count: str, shard: str) -> str:
    name, state = (value.format(row=row) for value in _COUNTED[table])
    return (
        "INSERT INTO tally (kind, name, state, shard, count)"
        f" VALUES ('{table}', {name}, {state}, {shard}, {count})"
        " ON CONFLICT (kind, name, state, shard) DO UPDATE SET count = tally.count + excluded.count"
    )


def _sqlite() -> None:
    for table in _COUNTED:
        for action, row, count in (("insert", "new", "1"), ("delete", "old", "-1")):
            op.execute(
                f"CREATE TRIGGER tally_{table}_{action} AFTER {action} ON {table}"
                f" BEGIN {_add(table, row, count, '0')}; END"
            )
    for table, (column, condition) in _CHANGES.items():
        op.execute(
            f"CREATE TRIGGER tally_{table}_update AFTER UPDATE OF {column} ON {table}"
            f" WHEN {condition} BEGIN {_add(table, 'old', '-1', '0')};"
            f" {_add(table, 'new', '1', '0')}; END"
        )


def _postgresql() -> None:
    for table, columns in _COUNTED.items():
        name, state = (value.format(row="changed") for value in columns)
        for action, rows, sign in (("insert", "NEW", "1"), ("delete", "OLD", "-1")):
            _function(
                f"tally_{table}_{action}",
                "INSERT INTO tally (kind, name, state, shard, count)"
                f" SELECT '{table}', {name}, {state}, pg_backend_pid(), {sign} * count(*)"
                " FROM changed GROUP BY 2, 3"
                " ON CONFLICT (kind, name, state, shard)"
                " DO UPDATE SET count = tally.count + excluded.count;",
            )
            op.execute(
                f"CREATE TRIGGER tally_{table}_{action} AFTER {action} ON {table}"
                f" REFERENCING {rows} TABLE AS changed"
                f" FOR EACH STATEMENT EXECUTE FUNCTION tally_{table}_{action}()"
            )
    for table, (column, condition) in _CHANGES.items():
        less = _add(table, "old", "-1", "pg_backend_pid()")
        more = _add(table, "new", "1", "pg_backend_pid()")
        _function(f"tally_{table}_update", f"{less}; {more};")
        op.execute(
            f"CREATE TRIGGER tally_{table}_update AFTER UPDATE OF {column} ON {table}"
            f" FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION tally_{table}_update()"
        )


def _function(name: str, body: str) -> None:
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql"
        f" AS $$ BEGIN {body} RETURN NULL; END $$"
    )
