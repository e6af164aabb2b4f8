"""What a batch says of a study, as findings H1 to H4 of its audit."""

from collections.abc import Collection
from dataclasses import replace

from dicom_ai_node.decide.batch import WORTH_A_LOOK, Case, Verdict
from dicom_ai_node.decide.gates import OUTSIDE_TRAINING
from dicom_ai_node.rules.image import RULES
from dicom_ai_node.types import (
    AttributeStatus,
    Finding,
    HeaderAudit,
    Outcome,
    Reason,
    StudyResult,
)

_HALF = 0.5
_WORDING = "inferred characteristics differ from the record"


def with_findings(case: Case, verdict: Verdict, disabled: Collection[str] = ()) -> HeaderAudit:
    """The audit of a study with H1 to H4 as the batch found them, and CONFLICT_IMAGE.

    ``disabled`` are the rules that the batch was judged without.
    """
    audit, result, findings = case.audit, case.result, list[Finding]()
    if verdict.age is not None and verdict.age_found:
        low, high = verdict.age.interval90
        text = f"recorded age is far from the estimate, 90 % interval {low:.0f} to {high:.0f} years"
        findings.append(_finding("H1", f"{_WORDING}: {text} (p = {verdict.age_p:.2g})"))
        audit = replace(audit, age=AttributeStatus.CONFLICT_IMAGE)
    if verdict.sex_found:
        text = f"recorded sex has probability {verdict.sex_p:.2g}"
        findings.append(_finding("H2", f"{_WORDING}: {text}"))
        audit = replace(audit, sex=AttributeStatus.CONFLICT_IMAGE)
    if verdict.mix_up:
        findings.append(_finding("H3", f"{_WORDING}: possible mix-up of studies{_odds(verdict)}"))
        if verdict.age_p is not None and verdict.age_p < WORTH_A_LOOK:
            audit = replace(audit, age=AttributeStatus.CONFLICT_IMAGE)
        if verdict.sex_p is not None and verdict.sex_p < _HALF:
            audit = replace(audit, sex=AttributeStatus.CONFLICT_IMAGE)
    reason = _not_assessable(result)
    if reason is not None and reason.code == OUTSIDE_TRAINING and verdict.age_found:
        reason = None  # the recorded age that forbade an answer is the one that is contradicted
    if "H4" not in disabled and reason is not None:
        findings.append(_finding("H4", f"not assessable: {reason.text}"))
    return replace(audit, findings=(*audit.findings, *findings))


def _odds(verdict: Verdict) -> str:
    age, sex = verdict.age_p, verdict.sex_p
    said = [
        *([f"recorded age p = {age:.2g}"] if age is not None else ()),
        *([f"recorded sex has probability {sex:.2g}"] if sex is not None else ()),
    ]
    return f" ({', '.join(said)})" if said else ""


def _finding(rule: str, reason: str) -> Finding:
    return Finding(rule, RULES[rule].severity, RULES[rule].attribute, reason)


def _not_assessable(result: StudyResult | None) -> Reason | None:
    if result is None or result.outcome not in {Outcome.ABSTAINED, Outcome.REFUSED}:
        return None
    return result.reason or Reason("unknown", "no reason was given")
