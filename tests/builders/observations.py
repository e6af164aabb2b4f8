"""Builders of observations: a site whose errors are known."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import insert

from dicom_ai_node.answers import Outcome
from dicom_ai_node.monitor.observation import Observation, ObservedHead, Role, week_begin
from dicom_ai_node.store import Database
from dicom_ai_node.store.monitor import row_of
from dicom_ai_node.store.tables import observation, study

LIVE = "a" * 64
SHADOW = "b" * 64
FIRST_WEEK = 2800
AGE_HEAD = ObservedHead("quantity", "PatientAge", unit="a")
SEX_HEAD = ObservedHead("category", "PatientSex", values=("F", "M"))
UNANSWERED = dict.fromkeys(("mu", "low90", "high90", "probability_female"))
"""For :func:`changed`: what a gate makes of a study."""
_GATES = {"not_a_chest": "chest", "not_frontal": "frontal"}


def seen(uid: str = "1.1", **values: Any) -> Observation:
    """Return an observation of a woman of 60, estimated right."""
    given: dict[str, Any] = {
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
    } | values
    age, sex = given.pop("age"), given.pop("sex")
    recorded = {"PatientAge": age, "PatientSex": sex or None}
    said = {name: given.pop(name) for name in UNANSWERED}
    made = Observation(
        uid,
        recorded={name: value for name, value in recorded.items() if value is not None},
        heads={"age": AGE_HEAD, "sex": SEX_HEAD},
        gate=_GATES.get(given.get("reason_code", ""), ""),
        **given,
    )
    return changed(made, **said)


def changed(one: Observation, **said: float | None) -> Observation:
    """Return an observation with other answers: ``mu``, ``low90``, ``high90`` of the age,
    ``probability_female``."""
    age = dict(one.heads["age"].answer)
    age |= {name: value for name, value in said.items() if name in ("mu", "low90", "high90")}  # type: ignore[misc]
    if None in age.values():
        age = {}
    sex = one.heads["sex"].answer
    if "probability_female" in said:
        female = said["probability_female"]
        sex = {} if female is None else {"F": female, "M": 1 - female}
    return replace(
        one,
        heads={
            **one.heads,
            "age": replace(one.heads["age"], answer=age),
            "sex": replace(one.heads["sex"], answer=sex),
        },
    )


def age_said(one: Observation) -> Mapping[str, float]:
    """The estimate of the age and the ends of its interval; empty where there is none."""
    return one.heads["age"].answer


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
    came = [
        {
            "study_instance_uid": one.study_uid,
            "state": "delivered",
            **dict.fromkeys(("first_at", "opened_at", "last_at", "closes_at"), one.received_at),
            "updated_at": one.received_at,
        }
        for one in observations
    ]
    with db.write() as connection:
        if studies:
            connection.execute(insert(study), came)
        connection.execute(insert(observation), [row_of(one) for one in observations])
