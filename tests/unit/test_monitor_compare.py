"""Two bundles on the same studies."""

from dataclasses import replace

import numpy as np
import pytest

from dicom_ai_node.answers import Outcome
from dicom_ai_node.monitor.compare import compare, verdict
from dicom_ai_node.monitor.measures import error
from dicom_ai_node.monitor.observation import Observation, Role
from tests.builders.observations import (
    FIRST_WEEK,
    SHADOW,
    UNANSWERED,
    age_said,
    changed,
    site,
)


def beside(
    live: list[Observation], *, noise: float, shrink: float = 1.0, seed: int = 1
) -> list[Observation]:
    """Return what another bundle says: the error shrunk, and noise of its own."""
    generator = np.random.default_rng(seed)
    made = []
    for one in live:
        by = error(one, "age")
        assert by is not None
        mu = age_said(one)["mu"] - by + shrink * by + float(generator.normal(0, noise))
        other = replace(one, model_sha256=SHADOW, role=Role.SHADOW)
        made.append(changed(other, mu=mu, low90=mu - 9.87, high90=mu + 9.87))
    return made


def test_a_smaller_error_is_found_and_said() -> None:
    live = site(range(FIRST_WEEK, FIRST_WEEK + 5))
    found = {one.quantity: one for one in compare(live, beside(live, noise=0.5, shrink=0.7))}
    age = found["age MAE, years"]
    assert age.n == 300
    assert age.better == "shadow"
    assert age.difference == pytest.approx(-1.4, abs=0.5)
    assert age.high is not None
    assert age.high < 0
    text = verdict(list(found.values()))
    assert "The shadow bundle did better in age MAE, years (by -1" in text
    assert "sex accuracy" in text.split("No difference")[1]


def test_no_difference_is_said_plainly() -> None:
    live = site(range(FIRST_WEEK, FIRST_WEEK + 2))
    found = compare(live, beside(live, noise=0.3))
    assert {one.better for one in found} == {""}
    assert verdict(found).startswith("No difference that these 120 studies can show in age MAE")


def test_only_what_both_saw_is_compared() -> None:
    live = site(range(FIRST_WEEK, FIRST_WEEK + 1), a_week=40)
    other = beside(live, noise=1.0)[:30]
    refused = {"outcome": Outcome.ABSTAINED, "reason_code": "not_a_chest", "gate": "chest"}
    other[:20] = [
        changed(replace(one, **refused), **UNANSWERED)  # type: ignore[arg-type]
        for one in other[:20]
    ]
    found = {one.quantity: one for one in compare(live, other)}
    assert found["age MAE, years"].n == 10
    assert found["refused by a gate"].n == 30
    assert found["refused by a gate"].shadow == pytest.approx(2 / 3)
    assert "gates of the shadow bundle refuse more" in verdict(list(found.values()))
    assert compare(live, []) == []
    assert "no study" in verdict([])


def test_areas_count_ties_half() -> None:
    live = site(range(FIRST_WEEK, FIRST_WEEK + 1), a_week=40, right=0.8)
    (area,) = [one for one in compare(live, beside(live, noise=1.0)) if one.quantity == "sex AUC"]
    females, males = (
        [one.heads["sex"].answer["F"] for one in live if one.recorded["PatientSex"] == sex]
        for sex in ("F", "M")
    )
    won = [(f > m) + (f == m) / 2 for f in females for m in males]
    assert area.live == pytest.approx(np.mean(won))
    assert (area.difference, area.better) == (0.0, "")


def test_intervals_hold_their_nominal_share() -> None:
    """Two bundles that are equally good: about one comparison in twenty says otherwise."""
    wrong = 0
    for seed in range(200):
        live = site(range(FIRST_WEEK, FIRST_WEEK + 1), seed=seed)
        twin = []
        others = site(range(FIRST_WEEK, FIRST_WEEK + 1), seed=seed + 1000)
        for one, other in zip(live, others, strict=True):
            age = float(one.recorded["PatientAge"])
            recorded = {**other.recorded, "PatientAge": age}
            made = replace(other, study_uid=one.study_uid, model_sha256=SHADOW, recorded=recorded)
            twin.append(changed(made, mu=age + (error(other, "age") or 0)))
        wrong += compare(live, twin)[0].better != ""
    assert 2 <= wrong <= 22
