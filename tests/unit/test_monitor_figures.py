"""Figures of groups, and what is taken for the truth."""

from typing import Any

import pytest

from dicom_ai_node.answers import Outcome
from dicom_ai_node.monitor.figures import GROUPS, mean, share, student, tabulate
from dicom_ai_node.monitor.measures import measures
from dicom_ai_node.monitor.observation import (
    once_a_week,
    week_begin,
    week_name,
    week_of,
)
from dicom_ai_node.rules.attributes import trusted_age, trusted_sex
from dicom_ai_node.types import AttributeStatus
from tests.builders.checks import header_check
from tests.builders.observations import FIRST_WEEK, seen

MEASURED = measures(seen().heads)


def test_a_header_that_no_rule_doubts_is_a_label() -> None:
    fine = header_check()
    assert (trusted_age(fine), trusted_sex(fine)) == (60.0, "F")


@pytest.mark.parametrize(
    "change",
    [
        {"exempt": "quality control"},
        {"age": AttributeStatus.CONFLICT_HEADER, "sex": AttributeStatus.MISSING},
        {"censored_age": True, "sex": AttributeStatus.NOT_ASSESSED},
        {"recorded": ("", "O"), "years": None},
    ],
)
def test_anything_else_is_not(change: dict[str, Any]) -> None:
    doubted = header_check(**change)
    assert (trusted_age(doubted), trusted_sex(doubted)) == (None, "")


def test_a_share_has_wilsons_interval() -> None:
    figure = share(8, 10)
    assert figure.low == pytest.approx(0.4902, abs=1e-4)
    assert figure.high == pytest.approx(0.9433, abs=1e-4)
    assert share(0, 10).low == pytest.approx(0.0, abs=1e-12)
    assert share(0, 0).value is None


@pytest.mark.parametrize(
    ("freedom", "point"), [(4, 2.776), (10, 2.228), (30, 2.042), (1000, 1.962)]
)
def test_students_point_is_near_the_table(freedom: int, point: float) -> None:
    assert student(freedom, 0.975) == pytest.approx(point, rel=0.01)


def test_many_studies_of_few_persons_say_less() -> None:
    values = [1.0, 1.1, 5.0, 5.1, 9.0, 9.1] * 4
    apart = mean(values, [str(i) for i in range(24)])
    together = mean(values, [str(int(value)) for value in values])
    assert apart.value == together.value == pytest.approx(5.05)
    assert apart.low is not None
    assert together.low is not None
    assert together.low < apart.low - 2
    assert mean([1.0, 2.0], ["a", "a"]).low is None
    few = ([1.0, 1.0, 18.0], ["a", "b", "c"])
    low = mean(*few).low
    assert low is not None
    assert low < 0
    assert mean(*few, least=0.0).low == 0


def test_figures_of_a_group_rest_on_what_is_known() -> None:
    observations = [
        seen("1.1", mu=63.0),
        seen("1.2", mu=55.0, age=None),
        seen("1.3", mu=40.0, low90=30.0, high90=50.0, probability_female=0.2),
        seen("1.4", sex=""),
        seen("1.5", outcome=Outcome.ABSTAINED, reason_code="not_frontal", mu=None, low90=None,
             high90=None, probability_female=None),
        seen("1.6", outcome=Outcome.ABSTAINED, reason_code="too_uncertain", mu=60.0),
        seen("1.7", outcome=Outcome.REFUSED, reason_code="unreadable", mu=None, low90=None,
             high90=None, probability_female=None),
    ]  # fmt: skip
    (row,) = tabulate(observations, MEASURED, by="all")
    assert row.n == 7
    assert list(row.figures) == ["mae", "bias", "coverage", "sex_accuracy", "refused"]
    assert row.figures["mae"].n == 4
    assert row.figures["mae"].value == pytest.approx((3 + 20 + 1 + 0) / 4)
    assert row.figures["bias"].value == pytest.approx((3 - 20 + 1 + 0) / 4)
    assert (row.figures["coverage"].n, row.figures["coverage"].value) == (4, 0.75)
    assert (row.figures["sex_accuracy"].n, row.figures["sex_accuracy"].value) == (4, 0.75)
    assert row.figures["refused"].n == 6
    assert row.figures["refused"].value == pytest.approx(1 / 6)


def test_groups_are_named() -> None:
    observations = [
        seen("1.1"),
        seen("1.2", station="", view="AP", age=17.0),
        seen("1.3", age=80.0),
    ]
    assert [(row.group, row.n) for row in tabulate(observations, MEASURED, by="station")] == [
        ("(not stated)", 1),
        ("ROOM1", 2),
    ]
    assert [row.group for row in tabulate(observations, MEASURED, by="view")] == ["AP", "PA"]
    assert [row.group for row in tabulate(observations, MEASURED, by="age")] == [
        "0-17",
        "60-79",
        "80+",
    ]
    assert all(tabulate(observations, MEASURED, by=by) for by in GROUPS)


def test_a_patient_counts_once_a_week() -> None:
    monday = week_begin(FIRST_WEEK)
    daily = [seen(f"1.{d}", patient="p", received_at=monday + d * 86400) for d in range(14)]
    unknown = [seen(f"2.{d}", received_at=monday + d * 86400) for d in range(3)]
    kept = once_a_week(daily[::-1] + unknown)
    assert sorted(one.study_uid for one in kept) == ["1.0", "1.7", "2.0", "2.1", "2.2"]


def test_weeks_begin_on_monday() -> None:
    assert week_name(week_of(1_700_000_000)) == "2023-11-13"
    assert week_of(week_begin(7)) == 7
    assert week_of(week_begin(7) - 1) == 6
