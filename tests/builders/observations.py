"""Builders of observations: a site whose errors are known."""

from dataclasses import asdict

import numpy as np
from sqlalchemy import insert

from dicom_ai_node.monitor.observation import Observation, Role, week_begin
from dicom_ai_node.store import Database
from dicom_ai_node.store.tables import observation, study
from dicom_ai_node.types import Outcome

LIVE = "a" * 64
SHADOW = "b" * 64
FIRST_WEEK = 2800


def seen(uid: str = "1.1", **values: object) -> Observation:
    """Return an observation of a woman of 60, estimated right."""
    given = {
        "study_instance_uid": uid,
        "model_sha256": LIVE,
        "role": Role.LIVE,
        "outcome": Outcome.ESTIMATED,
        "station": "ROOM1",
        "view": "PA",
        "sex": "F",
        "age": 60.0,
        "mu": 61.0,
        "low90": 51.0,
        "high90": 71.0,
        "probability_female": 0.98,
        "received_at": week_begin(FIRST_WEEK) + 60,
    }
    return Observation(**(given | values))  # type: ignore[arg-type]


def site(
    weeks: range, *, a_week: int = 60, seed: int = 0, shift: float = 0.0, right: float = 0.95
) -> list[Observation]:
    """Return ``a_week`` observations in each of ``weeks``, errors of 6 years around ``shift``."""
    generator = np.random.default_rng((seed, weeks.start))
    made = []
    for week in weeks:
        for number in range(a_week):
            age = float(generator.integers(20, 90))
            mu = age + shift + float(generator.normal(0, 6))
            female = bool(generator.random() < 0.5)
            sure = bool(generator.random() < right)
            made.append(
                seen(
                    f"1.{week}.{number}",
                    age=age,
                    mu=mu,
                    low90=mu - 9.87,
                    high90=mu + 9.87,
                    sex="F" if female else "M",
                    probability_female=0.9 if female == sure else 0.1,
                    received_at=week_begin(week) + 100.0 * number,
                )
            )
    return made


def put(db: Database, observations: list[Observation], *, studies: bool = True) -> None:
    """Store observations as if their studies had come, been analysed and been delivered.

    Without ``studies`` theirs are there already.
    """
    rows = [{k: v for k, v in asdict(one).items() if k != "patient"} for one in observations]
    came = [
        {
            "study_instance_uid": one.study_instance_uid,
            "state": "delivered",
            **dict.fromkeys(("first_at", "opened_at", "last_at", "closes_at"), one.received_at),
            "updated_at": one.received_at,
        }
        for one in observations
    ]
    with db.write() as connection:
        if studies:
            connection.execute(insert(study), came)
        connection.execute(insert(observation), rows)
