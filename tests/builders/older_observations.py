"""The monitor's tables as they were up to schema 0010, when observations named age and sex."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, text

from dicom_ai_node.monitor.observation import week_begin
from tests.builders.observations import FIRST_WEEK, LIVE, SHADOW

NOW = week_begin(FIRST_WEEK + 13) + 3600.0
STATIONS = ("ROOM1", "ROOM2", "")
REFUSALS = ("not_a_chest", "not_frontal", "out_of_distribution")


def fill(connection: Connection) -> None:
    """Put thirteen weeks of a site into a database of schema 0007 to 0010.

    The site changes in the last two; in the last four a second bundle runs beside the first.
    """
    rows = list(studies())
    insert(connection, "study", [_study(row) for row in rows])
    often = [row for row in rows if _number(row) % 4 == 0]
    insert(connection, "study_header", [_header(row) for row in often])
    others = [beside(row) for row in rows if row["received_at"] >= week_begin(FIRST_WEEK + 9)]
    insert(connection, "observation", [*rows, *others])


def _study(row: dict[str, Any]) -> dict[str, Any]:
    times = ("first_at", "opened_at", "last_at", "closes_at", "updated_at")
    return {
        "study_instance_uid": row["study_instance_uid"], "state": "delivered", "reason_code": "",
        "reason": "", "revision": 1, "attempts": 0, "lease_owner": "", "lease_until": 0.0,
        "not_before": 0.0, **dict.fromkeys(times, row["received_at"]),
    }  # fmt: skip


def _header(row: dict[str, Any]) -> dict[str, Any]:
    """Of a patient who comes often."""
    return {
        "study_instance_uid": row["study_instance_uid"],
        "patient_key": f"patient {_number(row) % 24}",
        "study_date": "20260101", "sex": "F", "birth_date": "", "age_years": 60.0,
    }  # fmt: skip


def _number(row: dict[str, Any]) -> int:
    return int(row["study_instance_uid"].rpartition(".")[2])


def studies() -> Iterator[dict[str, Any]]:
    """What the live bundle said of each study, as a row of the table."""
    chance = random.Random(7)
    for week in range(FIRST_WEEK, FIRST_WEEK + 13):
        for number in range(70):
            age, sex = float(chance.randint(20, 89)), chance.choice("FM")
            shift = 7.0 if week >= FIRST_WEEK + 11 else 0.0
            mu = age + shift + chance.gauss(0, 6)
            sure = chance.random() < 0.95
            share = chance.uniform(0.5, 1.0)
            row: dict[str, Any] = {
                "study_instance_uid": f"1.{week}.{number}",
                "model_sha256": LIVE,
                "role": "live",
                "received_at": week_begin(week) + 6000.0 * number,
                "manufacturer": "Maker",
                "model_name": "Plate",
                "station": chance.choice(STATIONS),
                "software": "1.0",
                "view": chance.choice(("PA", "AP")),
                "sex": sex if chance.random() < 0.9 else "",
                "age": age if chance.random() < 0.9 else None,
                "mu": mu,
                "low90": mu - 9.87,
                "high90": mu + 9.87,
                "probability_female": share if (sex == "F") == sure else 1 - share,
                "outcome": "estimated",
                "reason_code": "",
            }
            if chance.random() < 0.04:
                row |= _unanswered("abstained", chance.choice(REFUSALS))
            elif chance.random() < 0.02:
                row |= _unanswered("refused", "unreadable")
            elif chance.random() < 0.02:
                row |= {"outcome": "abstained", "reason_code": "too_uncertain"}
            yield row


def beside(row: dict[str, Any]) -> dict[str, Any]:
    """What the second bundle said: ages nearer to the truth."""
    other = row | {"model_sha256": SHADOW, "role": "shadow"}
    if row["mu"] is not None:
        mu = row["mu"] if row["age"] is None else row["age"] + 0.6 * (row["mu"] - row["age"])
        other |= {"mu": mu, "low90": mu - 8.0, "high90": mu + 8.0}
    return other


def _unanswered(outcome: str, reason: str) -> dict[str, Any]:
    none = dict.fromkeys(("mu", "low90", "high90", "probability_female"))
    return none | {"outcome": outcome, "reason_code": reason}


def insert(connection: Connection, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows by SQL alone: the program no longer knows the tables so."""
    columns = ", ".join(f'"{name}"' for name in rows[0])
    values = ", ".join(f":{name}" for name in rows[0])
    connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), rows)
