"""A study's result and its header check as they are stored, and read back.

The keys are a public format: an attribute under check has keys made of its short name.

An answer stands beside the result's own keys under the name of its head. Those of age and sex, and
of each image, are older than heads and are written as they always were.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from dicom_ai_node.rules.attributes import ATTRIBUTES, Attribute
from dicom_ai_node.types import (
    Answer,
    AttributeStatus,
    Category,
    CheckedAttribute,
    Finding,
    HeaderCheck,
    ImageFindings,
    ImageRef,
    ImageResult,
    ModelIdentity,
    Outcome,
    Prediction,
    Proposal,
    Quantity,
    Reason,
    StudyResult,
)

_FINDINGS = TypeAdapter(tuple[Finding, ...])
_PROPOSALS = TypeAdapter(tuple[Proposal, ...])
_KINDS = {Quantity: "quantity", Category: "category", ImageFindings: "findings"}
_OF_KIND: Mapping[str, TypeAdapter[Answer]] = {
    kind: TypeAdapter(answer) for answer, kind in _KINDS.items()
}
_FEMALE = "probability_female"
_KEYS = frozenset(
    {"study_instance_uid", "outcome", "audit", "images", "reason", "model", "unanswered"}
    | {"trained_ages"}
)


def result_to_json(result: StudyResult) -> dict[str, Any]:
    """Return the result as JSON, numbers with all their digits."""
    return {
        "study_instance_uid": result.study_instance_uid,
        "outcome": result.outcome.value,
        "audit": check_to_json(result.check),
        "images": [_image(one) for one in result.images],
        "reason": asdict(result.reason) if result.reason else None,
        **{name: answer_to_json(name, answer) for name, answer in result.answers.items()},
        "model": asdict(result.model) if result.model else None,
        "unanswered": [
            {"attribute": name, "reason": asdict(why)} for name, why in result.unanswered.items()
        ],
        "trained_ages": list(result.trained_ages) if result.trained_ages else None,
    }


def result_from_json(values: Mapping[str, Any]) -> StudyResult:
    """Read what :func:`result_to_json` wrote."""
    reason = _reason(values["reason"])
    why = {one["attribute"]: Reason(**one["reason"]) for one in values.get("unanswered", ())}
    unknown = reason or Reason("unknown", "no reason was given")  # older results give none
    answers = {
        name: answer_from_json(name, values[name]) if values[name] else why.get(name, unknown)
        for name in heads_in(values)
    }
    ages, model = values.get("trained_ages"), values["model"]
    return StudyResult(
        study_instance_uid=values["study_instance_uid"],
        outcome=Outcome(values["outcome"]),
        check=check_from_json(values["audit"]),
        images=tuple(_read_image(one) for one in values["images"]),
        reason=reason,
        answers=answers,
        model=ModelIdentity(**model) if model else None,
        trained_ages=(ages[0], ages[1]) if ages else None,
    )


def check_to_json(
    check: HeaderCheck, attributes: Mapping[str, Attribute] = ATTRIBUTES
) -> dict[str, Any]:
    """Return a check as JSON: of each attribute what was recorded, its status, what it means."""
    rows = check.attributes
    units = {key: attributes[key].unit for key in rows if attributes[key].unit}
    return {
        "recorded": {
            **{row.name: row.recorded for row in rows.values()},
            **{f"{rows[key].name}_{unit}": rows[key].value for key, unit in units.items()},
            "birth_date_age": check.birth_date_age,
        },
        **{name: status.value for name, status in check.statuses.items()},
        "findings": _FINDINGS.dump_python(check.findings, mode="json"),
        "proposals": _PROPOSALS.dump_python(check.proposals, mode="json"),
        "exempt": check.exempt,
        **{f"censored_{rows[key].name}": rows[key].censored for key in units},
        **{
            f"meant_{row.name}": row.meant if key in units else row.meant or ""
            for key, row in rows.items()
        },
    }


def check_from_json(
    values: Mapping[str, Any], attributes: Mapping[str, Attribute] = ATTRIBUTES
) -> HeaderCheck:
    """Read what :func:`check_to_json` wrote."""
    return HeaderCheck(
        {key: _row(attribute, values) for key, attribute in attributes.items()},
        findings=_FINDINGS.validate_python(values.get("findings", ())),
        proposals=_PROPOSALS.validate_python(values.get("proposals", ())),
        exempt=values.get("exempt", ""),
        birth_date_age=values["recorded"]["birth_date_age"],
    )


def _row(attribute: Attribute, values: Mapping[str, Any]) -> CheckedAttribute:
    name, unit, recorded = attribute.name, attribute.unit, values["recorded"]
    meant = values.get(f"meant_{name}")
    return CheckedAttribute(
        name,
        recorded[name],
        AttributeStatus(values[name]),
        _number(recorded[f"{name}_{unit}"]) if unit else attribute.code(recorded[name]),
        _number(meant) if unit else meant or None,
        censored=values.get(f"censored_{name}", False),
    )


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)  # JSON may say 63 for 63.0


def heads_in(values: Mapping[str, Any]) -> list[str]:
    """Return the names of the heads that a stored result speaks of."""
    return [name for name in values if name not in _KEYS]


def answers_in(values: Mapping[str, Any]) -> dict[str, Answer]:
    """Return the answers that a stored result states."""
    return {name: answer_from_json(name, values[name]) for name in heads_in(values) if values[name]}


def answer_to_json(name: str, answer: Answer | Reason | None) -> dict[str, Any] | None:
    """Return the answer of the head ``name`` as JSON, None where it has none."""
    if answer is None or isinstance(answer, Reason):
        return None
    if name == "age" and isinstance(answer, Quantity):
        return {
            "mu": answer.mu,
            "sigma": answer.sigma,
            "interval90": list(answer.interval90),
        }
    if name == "sex" and isinstance(answer, Category):
        return {_FEMALE: answer.probabilities["F"]}
    values = asdict(answer)
    if isinstance(answer, Quantity):
        values["interval90"] = list(answer.interval90)
    return {"kind": _KINDS[type(answer)], **values}


def answer_from_json(name: str, values: Mapping[str, Any]) -> Answer:
    """Read what :func:`answer_to_json` wrote."""
    if "kind" in values:
        own = {key: value for key, value in values.items() if key != "kind"}
        return _OF_KIND[values["kind"]].validate_python(own)
    if _FEMALE in values:
        return _sex(values[_FEMALE])
    low, high = values["interval90"]
    return Quantity(values["mu"], values["sigma"], (low, high), attribute="PatientAge")


def _sex(female: float) -> Category:
    return Category({"F": female, "M": 1 - female}, attribute="PatientSex")


def _image(one: ImageResult) -> dict[str, Any]:
    return {
        "image": asdict(one.image),
        "outcome": one.outcome.value,
        "reason": asdict(one.reason) if one.reason else None,
        "prediction": dict(_prediction(one.prediction)) if one.prediction else None,
    }


def _prediction(one: Prediction) -> Iterator[tuple[str, Any]]:
    for name, answer in one.answers.items():
        if name == "age" and isinstance(answer, Quantity):
            yield name, answer.mu
            yield "age_sd", answer.sigma
            yield "age_interval90", list(answer.interval90)
        elif name == "sex" and isinstance(answer, Category):
            yield _FEMALE, answer.probabilities["F"]
        else:
            yield name, answer_to_json(name, answer)
    yield from one.gates.items()
    yield "in_distribution", one.in_distribution


def _read_image(values: Mapping[str, Any]) -> ImageResult:
    prediction = values["prediction"]
    return ImageResult(
        ImageRef(**values["image"]),
        Outcome(values["outcome"]),
        _reason(values["reason"]),
        read_prediction(prediction) if prediction else None,
    )


def read_prediction(values: Mapping[str, Any]) -> Prediction:
    """Read what one image of a stored result says."""
    answers: dict[str, Answer] = {}
    gates = dict(values)
    if "age" in values and "age_sd" in values:
        mu, sigma, (low, high) = (gates.pop(key) for key in ("age", "age_sd", "age_interval90"))
        answers["age"] = Quantity(mu, sigma, (low, high), attribute="PatientAge")
    if _FEMALE in values:
        answers["sex"] = _sex(gates.pop(_FEMALE))
    for name, value in values.items():
        if isinstance(value, Mapping):
            answers[name] = answer_from_json(name, gates.pop(name))
    in_distribution = gates.pop("in_distribution")
    return Prediction(answers, gates, in_distribution)


def _reason(values: Mapping[str, Any] | None) -> Reason | None:
    return Reason(**values) if values else None
