"""Answers of a bundle for age and sex, as the shipped one gives them, and results made of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dicom_ai_node.answers import (
    Answer,
    BundleResult,
    Category,
    Outcome,
    Prediction,
    Quantity,
    StudyResult,
)
from dicom_ai_node.types import HeaderCheck


def age(mu: float, sigma: float, interval90: tuple[float, float]) -> Quantity:
    """Years."""
    return Quantity(mu, sigma, interval90, attribute="PatientAge")


def sex(female: float) -> Category:
    """With this probability of female."""
    return Category({"F": female, "M": 1 - female}, attribute="PatientSex")


def prediction(
    mu: float = 60.0,
    sigma: float = 5.0,
    interval90: tuple[float, float] = (50.0, 70.0),
    female: float = 0.99,
    *,
    chest: float = 0.99,
    frontal: float = 0.99,
    in_distribution: float = 0.5,
) -> Prediction:
    """What the network says of one image."""
    answers: Mapping[str, Answer] = {"age": age(mu, sigma, interval90), "sex": sex(female)}
    return Prediction(answers, {"chest": chest, "frontal": frontal}, in_distribution)


def gated(one: Prediction, **gates: float) -> Prediction:
    """The same image with other gates, or another ``in_distribution``."""
    near = gates.pop("in_distribution", one.in_distribution)
    return replace(one, gates={**one.gates, **gates}, in_distribution=near)


def study_result(uid: str, outcome: Outcome, check: HeaderCheck, **part: Any) -> StudyResult:
    """A study that one bundle saw; ``part`` are the other fields of its part."""
    return StudyResult(uid, check, (BundleResult(outcome, **part),))


def with_part(result: StudyResult, **changes: Any) -> StudyResult:
    """The same with changes of its only part."""
    (part,) = result.parts
    return replace(result, parts=(replace(part, **changes),))
