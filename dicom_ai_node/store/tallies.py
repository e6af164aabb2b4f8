"""How many rows there are of each kind and state, without counting them.

Triggers keep the table: migration 0014 has them. On PostgreSQL each session counts in rows of its
own, which :func:`fold` brings together.
"""

from sqlalchemy import Connection, func, select, text

from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import tally

Tally = dict[tuple[str, str], int]
"""By name (a destination, a kind of report, a bundle) and state; none of which there is no row."""

_FOLD = text(
    "WITH gone AS (DELETE FROM tally WHERE (kind, name, state, shard) IN"
    " (SELECT kind, name, state, shard FROM tally WHERE shard <> 0 FOR UPDATE SKIP LOCKED)"
    " RETURNING kind, name, state, count)"
    " INSERT INTO tally (kind, name, state, shard, count)"
    " SELECT kind, name, state, 0, sum(count) FROM gone GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    " ON CONFLICT (kind, name, state, shard) DO UPDATE SET count = tally.count + excluded.count"
)


def tallies(connection: Connection, *kinds: str) -> dict[str, Tally]:
    """Return the counts of tables, by their names."""
    query = (
        select(tally.c.kind, tally.c.name, tally.c.state, func.sum(tally.c.count))
        .where(tally.c.kind.in_(kinds))
        .group_by(tally.c.kind, tally.c.name, tally.c.state)
    )
    found: dict[str, Tally] = {kind: {} for kind in kinds}
    for kind, name, state, count in connection.execute(query):
        if count:
            found[kind][name, state] = int(count)
    return found


def fold(db: Database) -> None:
    """Bring the counts of PostgreSQL's sessions together; nothing to do on SQLite.

    What a session is counting right now is left for the next time, so that nobody waits.
    """
    if not db.is_sqlite:
        with db.write() as connection:
            connection.execute(_FOLD)
