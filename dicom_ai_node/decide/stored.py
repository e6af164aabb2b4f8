"""A study's result and its header check as they are stored, and read back.

The keys are a public format: an attribute under check has keys made of its short name.

An answer stands beside the result's own keys under the name of its head. Those of age and sex, and
of each image, are older than heads and are written as they always were.

What the first bundle says stands at the top, beside what is said of the study; each further bundle
that saw something of it is an item of ``further``. Only then ``of_first`` says what became of the
first bundle's own: at the top are outcome and reason of the study.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from pydantic import TypeAdapter

from dicom_ai_node.answers import (
    Answer,
    BundleResult,
    Category,
    ImageRef,
    ImageResult,
    LabelProbabilities,
    ModelIdentity,
    Outcome,
    Prediction,
    Quantity,
    Reason,
    SeriesResult,
    StudyResult,
)
from dicom_ai_node.rules.attributes import ATTRIBUTES, Attribute
from dicom_ai_node.types import AttributeStatus, CheckedAttribute, Finding, HeaderCheck, Proposal

_FINDINGS = TypeAdapter(tuple[Finding, ...])
_PROPOSALS = TypeAdapter(tuple[Proposal, ...])
_KINDS = {Quantity: "quantity", Category: "category", LabelProbabilities: "findings"}
_OF_KIND: Mapping[str, TypeAdapter[Answer]] = {
    kind: TypeAdapter(answer) for answer, kind in _KINDS.items()
}
_FEMALE = "probability_female"
_KEYS = frozenset(
    {"study_instance_uid", "series_instance_uid", "outcome", "audit", "images", "reason", "model"}
    | {"unanswered", "trained_ages", "further", "of_first", "research", "offered", "read"}
    | {"series"}
)


def result_to_json(result: StudyResult) -> dict[str, Any]:
    """Return the result as JSON, numbers with all their digits."""
    first, *further = result.parts
    of_study = {
        "study_instance_uid": result.study_uid,
        "outcome": result.outcome.value,
        "audit": check_to_json(result.check),
    }
    part = _part_to_json(first)
    whole = of_study | part | {"outcome": result.outcome.value, "reason": _as_json(result.reason)}
    if further:
        whole["of_first"] = {"outcome": part["outcome"], "reason": part["reason"]}
        whole["further"] = [_part_to_json(one) for one in further]
    return whole


def _part_to_json(part: BundleResult) -> dict[str, Any]:
    return {
        "outcome": part.outcome.value,
        "images": [_image(one) for one in part.images],
        "reason": _as_json(part.reason),
        **{name: answer_to_json(name, answer) for name, answer in part.answers.items()},
        "model": asdict(part.model) if part.model else None,
        "unanswered": _unanswered(part.answers),
        "trained_ages": list(part.trained_ages) if part.trained_ages else None,
        **({"research": True} if part.research else {}),
        **({"offered": part.offered, "read": part.read} if part.offered else {}),
        **({"series": [_series(one) for one in part.series]} if part.series else {}),
    }


def _series(one: SeriesResult) -> dict[str, Any]:
    return {
        "series_instance_uid": one.series_instance_uid,
        **{name: answer_to_json(name, answer) for name, answer in one.answers.items()},
        "unanswered": _unanswered(one.answers),
    }


def _unanswered(answers: Mapping[str, Answer | Reason]) -> list[dict[str, Any]]:
    return [
        {"attribute": name, "reason": asdict(why)}
        for name, why in answers.items()
        if isinstance(why, Reason)
    ]


def parts_in(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what each bundle says in a stored result: a mapping as of :func:`_part_to_json`."""
    return [{**values, **values.get("of_first", {})}, *values.get("further", ())]


def result_from_json(values: Mapping[str, Any]) -> StudyResult:
    """Read what :func:`result_to_json` wrote."""
    return StudyResult(
        values["study_instance_uid"],
        check_from_json(values["audit"]),
        tuple(map(_read_part, parts_in(values))),
    )


def _read_part(values: Mapping[str, Any]) -> BundleResult:
    reason = _reason(values["reason"])
    ages, model = values.get("trained_ages"), values["model"]
    return BundleResult(
        Outcome(values["outcome"]),
        reason,
        tuple(_read_image(one) for one in values["images"]),
        _read_answers(values, reason),
        ModelIdentity(**model) if model else None,
        (ages[0], ages[1]) if ages else None,
        research=values.get("research", False),
        offered=values.get("offered", 0),
        read=values.get("read", 0),
        series=tuple(
            SeriesResult(one["series_instance_uid"], _read_answers(one, None))
            for one in values.get("series", ())
        ),
    )


def _read_answers(values: Mapping[str, Any], reason: Reason | None) -> dict[str, Answer | Reason]:
    """Read what is answered; ``reason`` is why all that is not is not, as older results say."""
    why = {one["attribute"]: Reason(**one["reason"]) for one in values.get("unanswered", ())}
    unknown = reason or Reason("unknown", "no reason was given")
    return {
        name: answer_from_json(name, values[name]) if values[name] else why.get(name, unknown)
        for name in heads_in(values)
    }


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
        **{f"{row.name}_by_series": dict(row.by_series) for row in rows.values() if row.by_series},
    }


def check_from_json(
    values: Mapping[str, Any], attributes: Mapping[str, Attribute] = ATTRIBUTES
) -> HeaderCheck:
    """Read what :func:`check_to_json` wrote."""
    return HeaderCheck(
        {
            key: _row(attribute, values)
            for key, attribute in attributes.items()
            if attribute.name in values["recorded"]  # an older check does not know all of them
        },
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
        by_series=values.get(f"{name}_by_series", {}),
    )


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)  # JSON may say 63 for 63.0


def heads_in(values: Mapping[str, Any]) -> list[str]:
    """Return the names of the heads that a part of a stored result speaks of."""
    return [name for name in values if name not in _KEYS]


def answers_in(values: Mapping[str, Any]) -> list[tuple[str, Answer]]:
    """Return the name of each head of which a stored result states an answer, and the answer."""
    return [
        (name, answer_from_json(name, part[name]))
        for part in parts_in(values)
        for name in heads_in(part)
        if part[name]
    ]


def answer_to_json(name: str, answer: Answer | Reason | None) -> dict[str, Any] | None:
    """Return the answer of the head ``name`` as JSON, None where it has none."""
    if answer is None or isinstance(answer, Reason):
        return None
    if isinstance(answer, Quantity) and _is_age(name, answer):
        return {
            "mu": answer.mu,
            "sigma": answer.sigma,
            "interval90": list(answer.interval90),
            **_uncertain(answer),
        }
    if isinstance(answer, Category) and _is_sex(name, answer):
        return {_FEMALE: answer.probabilities["F"], **_uncertain(answer)}
    values = asdict(answer)
    if values.get("certain"):
        del values["certain"]
    if isinstance(answer, Quantity):
        values["interval90"] = list(answer.interval90)
    if isinstance(answer, Category):
        values["covered"] = list(answer.covered)
        if not answer.covered:
            del values["covered"]
    return {"kind": _KINDS[type(answer)], **values}


def _uncertain(answer: Quantity | Category) -> dict[str, bool]:
    """Return what is said of an answer that is uncertain; of others nothing, as ever."""
    return {} if answer.certain else {"certain": False}


def _is_age(name: str, answer: Quantity) -> bool:
    return (name, answer.attribute, answer.unit) == ("age", "PatientAge", "a")


def _is_sex(name: str, answer: Category) -> bool:
    values = tuple(answer.probabilities)
    return (name, answer.attribute, values) == ("sex", "PatientSex", ("F", "M"))


def answer_from_json(name: str, values: Mapping[str, Any]) -> Answer:
    """Read what :func:`answer_to_json` wrote."""
    if "kind" in values:
        own = {key: value for key, value in values.items() if key != "kind"}
        return _OF_KIND[values["kind"]].validate_python(own)
    certain = values.get("certain", True)
    if _FEMALE in values:
        return replace(_sex(values[_FEMALE]), certain=certain)
    low, high = values["interval90"]
    return Quantity(
        values["mu"], values["sigma"], (low, high), attribute="PatientAge", certain=certain
    )


def _sex(female: float) -> Category:
    return Category({"F": female, "M": 1 - female}, attribute="PatientSex")


def _image(one: ImageResult) -> dict[str, Any]:
    return {
        "image": asdict(one.image),
        "outcome": one.outcome.value,
        "reason": _as_json(one.reason),
        "prediction": dict(_prediction(one.prediction)) if one.prediction else None,
    }


def _prediction(one: Prediction) -> Iterator[tuple[str, Any]]:
    for name, answer in one.answers.items():
        if isinstance(answer, Quantity) and _is_age(name, answer):
            yield name, answer.mu
            yield "age_sd", answer.sigma
            yield "age_interval90", list(answer.interval90)
        elif isinstance(answer, Category) and _is_sex(name, answer):
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


def _as_json(reason: Reason | None) -> dict[str, str] | None:
    return asdict(reason) if reason else None
