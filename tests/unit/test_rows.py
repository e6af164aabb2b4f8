"""What is made of rows: an invented attribute, known to nothing in the package, is carried through.

ViewPosition, of which only PA and LL can be used.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import pytest
from pydicom.sr.coding import Code

from dicom_ai_node.analyse.headers import recorded_part, status_part
from dicom_ai_node.answers import Answer, Category, LabelProbabilities, Outcome, Quantity
from dicom_ai_node.archive.member import Collected, StudyFacts
from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.conclude import AuditReport
from dicom_ai_node.audit.report.page import page
from dicom_ai_node.audit.report.tables import report_json, studies_table
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.config.stages import FillSettings, ReportSettings
from dicom_ai_node.decide.proposals import propose
from dicom_ai_node.decide.stored import check_from_json, check_to_json
from dicom_ai_node.decide.study import header_only, noteworthy
from dicom_ai_node.dicom.marks import CODING_SCHEME
from dicom_ai_node.report import codes
from dicom_ai_node.report.header_group import header_group
from dicom_ai_node.report.identity import ReportIdentity
from dicom_ai_node.report.text import summary
from dicom_ai_node.rules import RULES
from dicom_ai_node.rules.attributes import ATTRIBUTES, Attribute
from dicom_ai_node.rules.check import amended, check
from dicom_ai_node.rules.reading import Reading, shown
from dicom_ai_node.rules.rule import WARNING, Case, Hit, each, rule
from dicom_ai_node.types import (
    AttributeStatus,
    CheckedAttribute,
    HeaderCheck,
    Proposal,
    ProposalSource,
)
from tests.builders.answers import study_result
from tests.builders.headers import TODAY, Value, header
from tests.builders.scores import concluded

KEYWORD = "ViewPosition"
WORDS = {"PA", "LL"}


@rule("P1", WARNING, "part", "It is missing", status=AttributeStatus.MISSING)
def missing(case: Case) -> Iterator[Hit]:
    if case.lacks(KEYWORD):
        yield Hit("ViewPosition is absent or empty")


@rule("P2", WARNING, "part", "No term", status=AttributeStatus.MALFORMED)
@each
def unknown(reading: Reading) -> Iterator[Hit]:
    text = reading.header.clean(KEYWORD)
    if text and text not in WORDS:
        yield Hit(f"ViewPosition {shown(text)} is no defined term")


def propose_part(case: Case, status: AttributeStatus) -> Iterator[tuple[str, str]]:
    described = {reading.header.clean("StudyDescription").upper() for reading in case.readings}
    for word in sorted(WORDS):
        lacking = status is not AttributeStatus.CONFLICT_HEADER
        if lacking and any(word in text for text in described):
            yield word, "StudyDescription"


def part_meant(readings: Sequence[Reading]) -> str | None:
    words = {reading.header.clean(KEYWORD).upper() for reading in readings}
    return words.pop() if len(words) == 1 and words <= WORDS else None


PART = Attribute(
    KEYWORD,
    "part",
    propose_part,
    part_meant,
    sources={"StudyDescription": ProposalSource.HEADER},
    codes=frozenset(WORDS),
    respected=lambda case: case.usual[KEYWORD].text == "LL",
)
TABLE: Mapping[str, Attribute] = MappingProxyType({**ATTRIBUTES, KEYWORD: PART})


def checked(**changes: Value) -> HeaderCheck:
    return check(
        [header(**changes)],
        settings=RulesSettings(),
        today=TODAY,
        attributes=TABLE,
        rules={**RULES, "P1": missing, "P2": unknown},
    )


@pytest.mark.parametrize(
    ("recorded", "row", "trusted"),
    [
        ("PA", CheckedAttribute("part", "PA", AttributeStatus.CONSISTENT, "PA"), "PA"),
        ("", CheckedAttribute("part", "", AttributeStatus.MISSING), None),
        (
            "pa",
            CheckedAttribute("part", "pa", AttributeStatus.MALFORMED, meant="PA"),
            "PA",
        ),
        ("XY", CheckedAttribute("part", "XY", AttributeStatus.MALFORMED), None),
        ("LL", CheckedAttribute("part", "LL", AttributeStatus.NOT_ASSESSED, "LL"), None),
    ],
)
def test_its_row_is_checked(recorded: str, row: CheckedAttribute, trusted: str | None) -> None:
    made = checked(ViewPosition=recorded)
    assert made.attributes[KEYWORD] == row
    assert made.trusted(KEYWORD) == trusted
    assert made.flagged == (recorded not in WORDS)
    assert list(made.statuses) == ["age", "sex", "body_part", "part"]
    assert [*made.statuses.values()][:3] == [AttributeStatus.CONSISTENT] * 3


def test_nothing_of_an_exempt_study_is_trusted() -> None:
    made = checked(ViewPosition="PA", QualityControlSubject="YES")
    assert made.attributes[KEYWORD].status is AttributeStatus.NOT_ASSESSED
    assert made.trusted(KEYWORD) is None


def test_its_findings_and_proposals_are_carried() -> None:
    made = checked(ViewPosition="")
    (finding,) = made.findings
    assert (finding.rule, finding.attribute) == ("P1", "part")
    assert made.proposals == (Proposal(KEYWORD, "PA", "StudyDescription", "P1"),)
    assert noteworthy(made)
    (proposed,) = propose(header_only("1.2.3", made), FillSettings(), TABLE)
    assert (proposed.keyword, proposed.value) == (KEYWORD, "PA")
    assert (proposed.source, proposed.rules) == (ProposalSource.HEADER, ("P1",))


def test_a_finding_over_an_archive_changes_its_status() -> None:
    hit = Hit("no other station has this", status=AttributeStatus.IMPLAUSIBLE)
    after = amended(checked(ViewPosition="PA"), [(missing, hit)], TABLE)
    assert after.attributes[KEYWORD].status is AttributeStatus.IMPLAUSIBLE
    assert after.statuses["age"] is AttributeStatus.CONSISTENT


@pytest.mark.parametrize("recorded", ["PA", "pa", ""])
def test_it_is_stored_and_read_back(recorded: str) -> None:
    made = checked(ViewPosition=recorded)
    stored = json.loads(json.dumps(check_to_json(made, TABLE)))
    assert (stored["recorded"]["part"], stored["part"]) == (recorded, made.statuses["part"])
    assert check_from_json(stored, TABLE) == made


def test_the_json_of_a_header_names_it() -> None:
    made = checked(ViewPosition="pa")
    assert recorded_part(made)["part"] == "pa"
    assert status_part(made)["part"] == "MALFORMED"
    assert set(status_part(made).values()) == {"CONSISTENT", "MALFORMED"}


def test_the_report_states_its_status_and_says_it_in_words() -> None:
    made = checked(ViewPosition="pa")
    concept = Code("PARTSTAT", CODING_SCHEME, "Status of the recorded body part")
    group = header_group(
        made,
        [],
        identity=ReportIdentity("1.2.3", "digest", "", "2"),
        settings=ReportSettings(),
        concepts={**codes.RECORDED_STATUS, KEYWORD: concept},
    )
    (status,) = [
        item.ConceptCodeSequence[0].CodeValue
        for item in group[0].ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "PARTSTAT"
    ]
    assert status == "MALFORMED"
    comments = [item.TextValue for item in group[0].ContentSequence if "TextValue" in item]
    assert any("ViewPosition='pa'" in text for text in comments)
    said = summary(header_only("1.2.3", made))
    assert re.search(r"part 'pa'\. .*Recorded part is not in the required form", said)


def audited(**answers: Answer) -> AuditReport:
    """Two studies whose images were seen, and one of which nothing was had."""
    studies = [Collected("1.3", None, fault="gone")]
    for number, part in enumerate(("PA", "LL")):
        own = header(ViewPosition=part, PatientID=part, StudyInstanceUID=f"1.2.{number}")
        alone = check([own], settings=RulesSettings(), today=TODAY, attributes=TABLE)
        result = study_result(f"1.2.{number}", Outcome.ESTIMATED, alone, answers=answers)
        studies.append(Collected(f"1.2.{number}", StudyFacts(f"1.2.{number}", (own,)), result))
    spec = AuditSpec(source="node", today=TODAY)
    return concluded(spec, studies, model="m 1", attributes=TABLE)


def test_the_table_of_an_audit_has_its_columns_beside_those_of_age_and_sex() -> None:
    report = audited()
    chest, hand, nothing = csv.DictReader(io.StringIO(studies_table(report), newline=""))
    columns = [name for name in chest if "part" in name and "body_part" not in name]
    assert columns == ["recorded_part", "part_status"]
    assert (chest["recorded_part"], chest["part_status"]) == ("PA", "CONSISTENT")
    assert (hand["recorded_part"], hand["part_status"]) == ("LL", "NOT_ASSESSED")
    assert (nothing["recorded_part"], nothing["recorded_age"]) == ("", "")
    assert (chest["age_status"], chest["sex_status"]) == ("CONSISTENT", "CONSISTENT")
    rows = json.loads(report_json(report))["studies"]
    assert rows[1]["audit"]["recorded"]["part"] == "LL"
    shown = page(report)
    assert "Audit of PatientAge, PatientSex, BodyPartExamined and ViewPosition: node" in shown
    assert '<th class="n">ViewPosition</th>' in shown


def test_a_further_answer_has_columns_of_its_kind() -> None:
    report = audited(
        view=Category({"AP": 0.25, "PA": 0.75}, attribute="ImageType"),
        marks=LabelProbabilities({"tube": 0.5}),
        dose=Quantity(2.0, 1.0, (1.0, 3.0), unit="mGy"),
        other=Category({"F": 0.125, "M": 0.875}, attribute="PatientSex"),
    )
    seen, _, nothing = csv.DictReader(io.StringIO(studies_table(report), newline=""))
    said = {
        "estimated_age": "",
        "probability_female": "",
        "estimated_view": "PA",
        "probability_view": "0.75",
        "probability_marks_tube": "0.5",
        "probability_female_other": "0.125",
        "estimated_dose": "2.0",
        "estimated_dose_low90": "1.0",
        "estimated_dose_high90": "3.0",
    }
    assert {name: seen[name] for name in said} == said
    assert {nothing[name] for name in said} == {""}
    (study, *_) = json.loads(report_json(report))["studies"]
    assert (study["age"], study["sex"]) == (None, None)
    assert study["view"]["probabilities"] == {"AP": 0.25, "PA": 0.75}
    flagged = replace(report.studies[0].suspicion, alert=True, score=1.0)
    shown = page(replace(report, studies=(replace(report.studies[0], suspicion=flagged),)))
    assert "PA 0.750" in shown
    assert '<th class="n">Estimated dose</th>' in shown
