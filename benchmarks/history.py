"""A node's past, made by SQL: every table that grows, as full as that many studies leave it.

Study number ``i`` came ``i`` minutes after the first, from one of eleven modalities, each of which
counts its UIDs up. Of what is done the files are gone after a week and the report files
after ninety days; one study in ten had a proposal, one in ten was forwarded, a few failed.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, TextClause, create_engine, event, text

from dicom_ai_node.store import Database
from dicom_ai_node.store.tables import metadata

CR, SR = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.88.33"
ROOT = "1.2.826.0.1.3680043.10.474."
NOW = 1_900_000_000.0
_DAYS = 1440
MODEL = "ab" * 32
_IMAGE = {"image": {"sop_class_uid": CR, "sop_instance_uid": ROOT + "1", "series": ROOT + "2"}}
_ANSWER = {"mu": 61.2, "low90": 52.1, "high90": 70.9, "probability": 0.97, "outcome": "estimated"}
RESULT: dict[str, Any] = {
    "outcome": "estimated",
    "model": {"name": "chest-age-sex", "version": "1.6", "sha256": MODEL},
    "age": _ANSWER,
    "sex": _ANSWER,
    "images": [_IMAGE | _ANSWER | {"gates": {"chest": 0.99, "frontal": 0.98}}] * 2,
    "audit": {
        "recorded": {"PatientAge": "061Y", "PatientSex": "M", "BodyPartExamined": "CHEST"},
        "statuses": {"PatientAge": "plausible", "PatientSex": "missing"},
        "findings": [{"rule": "B1", "keyword": "PatientSex", "reason": "it is empty"}] * 3,
        "proposals": [],
    },
}
"""About as long as one of two images; what the lists read is where they look for it."""

_STUDY = f"'{ROOT}' || (i % 11) || '.' || (1000000000 + i)"
_MINUTE = "(:now - (:total - i) * 60.0)"
_FAILED, _DEAD, _SKIPPED = "i % 1000 = 7", "i % 1000 = 8", "i % 25 = 3"
_STATE = (
    f"CASE WHEN {_FAILED} THEN 'failed' WHEN {_DEAD} THEN 'undelivered'"
    f" WHEN {_SKIPPED} THEN 'skipped' ELSE 'delivered' END"
)
_REPORTED = f"NOT ({_FAILED}) AND NOT ({_SKIPPED})"
_STEPS = (("quiet", "collecting", "ready"), ("claim", "ready", "analysing"))
_ENDS = (("result", "analysing", "reported"), ("settled", "reported", "delivered"))
_OLD = f"i < :total - 7 * {_DAYS}"
_VERY_OLD = f"i < :total - 90 * {_DAYS}"


def _statements() -> list[tuple[str, dict[str, str]]]:
    """Return table and, by column, expression over ``i``; ``WHERE`` says of which studies."""
    uid = {"study_instance_uid": _STUDY}
    statements = [
        (
            "study",
            uid
            | {"state": _STATE, "reason_code": "''", "reason": "''", "revision": "1"}
            | {"flagged": "i % 3 = 0", "first_at": _MINUTE, "opened_at": _MINUTE}
            | {"last_at": f"{_MINUTE} + 5", "closes_at": f"{_MINUTE} + 35", "not_before": "0"}
            | {"attempts": "0", "lease_owner": "''", "lease_until": "0"}
            | {"updated_at": f"{_MINUTE} + 45"},
        )
    ]
    for what, before, after in (*_STEPS, *_ENDS):
        step = {"event": f"'{what}'", "from_state": f"'{before}'", "to_state": f"'{after}'"}
        statements.append(("transition", uid | step | {"at": f"{_MINUTE} + 40", "reason": "''"}))
    for view in (0, 1):
        statements.append(
            (
                "instance",
                uid
                | {"sop_instance_uid": f"{_STUDY} || '.{view}'"}
                | {"digest": f"((i * 2246822519 + {view}) % 4294967296) || '{'d' * 54}'"}
                | {"version": "1", "series_instance_uid": f"{_STUDY} || '.9'"}
                | {"sop_class_uid": f"'{CR}'", "transfer_syntax_uid": "'1.2.840.10008.1.2.1'"}
                | {"path": f"'instances/ab/' || i || '{'p' * 54}{view}'", "size": "10000000"}
                | {"calling_ae": "'MODALITY'", "association": "'receive-1-' || i"}
                | {"received_at": _MINUTE, "analysable": "true"}
                | {"dropped_at": f"CASE WHEN {_OLD} THEN {_MINUTE} + 604800 END"},
            )
        )
    statements += [
        (
            "study_header",
            uid
            | {"patient_key": f"((i / 3 * 2654435761) % 4294967296) || '{'k' * 54}'"}
            | {"study_date": "'20290101'", "sex": "'M'", "birth_date": "'19680101'"}
            | {"age_years": "61.0"},
        ),
        (
            "analysis",
            uid
            | {"id": "i", "result_key": f"i || '{'r' * 54}'", "revision": "1"}
            | {"created_at": f"{_MINUTE} + 45", "result": ":result"},
        ),
        ("report", uid | {"id": "i", "analysis_id": "i", "kind": "'sr'", "quarantined": "''"}),
    ]
    for position in range(3):
        statements.append(
            (
                "report_file",
                {"sop_instance_uid": f"'2.25.' || (3 * i + {position})"}
                | {"report_id": "i", "sop_class_uid": f"'{SR}'", "position": f"{position}"}
                | {"path": f"CASE WHEN {_VERY_OLD} THEN '' ELSE 'reports/ab/' || i END"}
                | {"WHERE": _REPORTED},
            )
        )
    sent = f"CASE WHEN {_DEAD} THEN 'dead' ELSE 'delivered' END"
    statements += [
        (
            "delivery",
            uid
            | {"report_id": "i", "destination": "'pacs'", "state": sent, "attempts": "1"}
            | {"not_before": "0", "lease_owner": "''", "lease_until": "0", "status": "0"}
            | {"created_at": f"{_MINUTE} + 45", "settled_at": f"{_MINUTE} + 46"}
            | {"sop_class_uid": f"'{SR}'", "sop_instance_uid": "'2.25.1'", "error": "''"}
            | {"WHERE": _REPORTED},
        ),
        (
            "observation",
            uid
            | {"model_sha256": f"'{MODEL}'", "role": "'live'", "received_at": _MINUTE}
            | {"manufacturer": "'ACME'", "model_name": "'DX 1'", "station": "'ROOM1'"}
            | {"software": "'1'", "view": "'PA'", "outcome": "'estimated'"}
            | {"reason_code": "''", "gate": "''", "recorded": ":recorded", "heads": ":heads"},
        ),
        (
            "proposal",
            uid
            | {"id": "i", "keyword": "'PatientSex'", "value": "'M'", "source": "'header'"}
            | {"detail": "''", "rules": ":rules", "recorded": "''", "station": "'ROOM1'"}
            | {"state": "'rejected'", "created_at": _MINUTE, "updated_at": _MINUTE}
            | {"WHERE": "i % 10 = 1"},
        ),
        (
            "forward",
            uid
            | {"sop_instance_uid": f"{_STUDY} || '.0'", "received_at": _MINUTE}
            | {"report_id": "i", "note": "''", "WHERE": f"i % 10 = 5 AND {_REPORTED}"},
        ),
    ]
    return statements


def fill(db: Database, studies: int) -> None:
    """Give an empty database the rows of ``studies`` studies that are done.

    Indices are built when all rows are there, and no foreign key is checked meanwhile.
    """
    heads = {"age": {"kind": "quantity", "attribute": "PatientAge", "unit": "a", "values": [],
                     "answer": {"mu": 61.2, "low90": 52.1, "high90": 70.9}}}  # fmt: skip
    written = {"result": RESULT, "recorded": {"PatientAge": 61.0}, "heads": heads, "rules": ["B1"]}
    fixed: dict[str, Any] = {name: json.dumps(value) for name, value in written.items()}
    fixed |= {"now": NOW, "total": studies}
    db.close()  # the journal's kind changes for nobody else's connection
    engine = _careless(db)
    indices = [index for table in metadata.sorted_tables for index in table.indexes]
    with engine.begin() as connection:
        if not db.is_sqlite:
            _check_keys(connection, "DISABLE")
        for index in indices:
            index.drop(connection)
        for table, columns in _statements():
            connection.execute(_insertion(db, table, columns), fixed)
        for index in indices:
            index.create(connection)
        if not db.is_sqlite:
            for table in ("analysis", "report", "proposal"):
                connection.exec_driver_sql(f"SELECT setval('{table}_id_seq', {studies})")
            _check_keys(connection, "ENABLE")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in _AFTERWARDS[db.is_sqlite]:
            connection.exec_driver_sql(statement)
    engine.dispose()


_AFTERWARDS = {True: ("PRAGMA journal_mode=WAL",), False: ("VACUUM ANALYZE",)}
_CARELESS = (
    "cache_size=-1000000",
    "synchronous=OFF",
    "foreign_keys=OFF",
    "journal_mode=DELETE",
    "journal_mode=OFF",
)
"""Of SQLite: a log of the whole history would be as large as itself."""


def _careless(db: Database) -> Engine:
    """Return an engine that checks no foreign keys, and that no power cut may interrupt."""
    engine = create_engine(db.url)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        if db.is_sqlite:
            for pragma in _CARELESS:
                connection.execute(f"PRAGMA {pragma}")

    return engine


def _check_keys(connection: Connection, do: str) -> None:
    """ENABLE or DISABLE the triggers by which PostgreSQL checks foreign keys."""
    query = "SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgisinternal"
    for table, name in connection.exec_driver_sql(query).all():
        connection.exec_driver_sql(f'ALTER TABLE {table} {do} TRIGGER "{name}"')


def _insertion(db: Database, table: str, columns: Mapping[str, str]) -> TextClause:
    values = [
        f"CAST({value} AS JSON)" if value in _JSON and not db.is_sqlite else value
        for name, value in columns.items()
        if name != "WHERE"
    ]
    names = [name for name in columns if name != "WHERE"]
    return text(
        f"INSERT INTO {table} ({', '.join(names)})"
        " WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL"
        " SELECT i + 1 FROM n WHERE i < :total)"
        f" SELECT {', '.join(values)} FROM n WHERE {columns.get('WHERE', 'true')}"
    )


_JSON = (":result", ":recorded", ":heads", ":rules")


def rows_of(db: Database) -> int:
    """Return how many rows there are in all."""
    with db.read() as connection:
        return sum(
            connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
            for table in metadata.tables
        )
