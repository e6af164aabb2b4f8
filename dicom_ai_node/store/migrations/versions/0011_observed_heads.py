"""observations by head and by recorded attribute; sums of references by what is charted.

Until now both named age and sex. A flag may be of a head with a long name.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_OLD = ("sex", "age", "mu", "low90", "high90", "probability_female")
_AGE = {"kind": "quantity", "attribute": "PatientAge", "unit": "a", "values": []}
_SEX = {"kind": "category", "attribute": "PatientSex", "unit": "", "values": ["F", "M"]}
_GATES = {
    "not_a_chest": "chest",
    "not_frontal": "frontal",
    "out_of_distribution": "in_distribution",
}
_SUMS = {
    "mae": ("aged", "absolute", "squared"),
    "bias": ("aged", "signed", "squared"),
    "coverage": ("aged", "covered", "covered"),
    "sex_accuracy": ("sexed", "right", "right"),
    "refused": ("seen", "refused", "refused"),
}
"""Of each chart: how many studies, the sum and the sum of the squares; 1 is its own square."""
_ROWS_AT_ONCE = 1000

observation = sa.table(
    "observation",
    *map(sa.column, ("study_instance_uid", "model_sha256", "outcome", "reason_code", *_OLD)),
    sa.column("gate"),
    sa.column("recorded", sa.JSON),
    sa.column("heads", sa.JSON),
)
reference = sa.table("drift_reference", sa.column("id"), sa.column("tally", sa.JSON))


def upgrade() -> None:
    gate = sa.Column("gate", sa.String(32), nullable=False, server_default="")
    for column in (gate, sa.Column("recorded", sa.JSON()), sa.Column("heads", sa.JSON())):
        op.add_column("observation", column)
    _convert_observations()
    _convert_references()
    with op.batch_alter_table("observation") as batch:
        for name in _OLD:
            batch.drop_column(name)
        for name in ("recorded", "heads"):
            batch.alter_column(name, existing_type=sa.JSON(), nullable=False)
    with op.batch_alter_table("drift_flag") as batch:
        batch.alter_column("quantity", existing_type=sa.String(16), type_=sa.Text())


def _convert_observations() -> None:
    connection, c = op.get_bind(), observation.c
    key = sa.tuple_(c.study_instance_uid, c.model_sha256)
    query = sa.select(observation).order_by(c.study_instance_uid, c.model_sha256)
    change = (
        sa.update(observation)
        .where(c.study_instance_uid == sa.bindparam("study"))
        .where(c.model_sha256 == sa.bindparam("bundle"))
    )
    last = ("", "")
    while True:
        later = query.where(key > sa.tuple_(*map(sa.literal, last))).limit(_ROWS_AT_ONCE)
        rows = connection.execute(later).all()
        if not rows:
            return
        connection.execute(change, [_by_head(row) for row in rows])
        last = (rows[-1].study_instance_uid, rows[-1].model_sha256)


def _by_head(row: Any) -> dict[str, Any]:
    recorded = {"PatientAge": row.age, "PatientSex": row.sex}
    age: dict[str, float] = {}
    if row.mu is not None:
        age = {"mu": row.mu, "low90": row.low90, "high90": row.high90}
    female = row.probability_female
    sex = {} if female is None else {"F": female, "M": 1 - female}
    return {
        "study": row.study_instance_uid,
        "bundle": row.model_sha256,
        "gate": _GATES.get(row.reason_code, "") if row.outcome == "abstained" else "",
        "recorded": {name: value for name, value in recorded.items() if value not in (None, "")},
        "heads": {
            "age": _AGE | {"answer": age},
            "sex": _SEX | {"answer": sex},
        },
    }


def _convert_references() -> None:
    connection, c = op.get_bind(), reference.c
    for row in connection.execute(sa.select(reference)).all():
        old = row.tally
        tally = {
            chart: dict(zip(("n", "total", "squares"), (old[key] for key in keys), strict=True))
            for chart, keys in _SUMS.items()
        }
        connection.execute(sa.update(reference).where(c.id == row.id).values(tally=tally))
