"""What the check makes of a study as a whole: statuses, proposals, exemptions."""

from datetime import date

import pytest

from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules import check, parse_age
from dicom_ai_node.rules.attributes import trusted_age, trusted_sex
from dicom_ai_node.types import AttributeStatus, HeaderCheck, PriorStudy, Severity
from tests.builders.checks import age_and_sex
from tests.builders.headers import TODAY, Value, checked, prior

CONSISTENT = AttributeStatus.CONSISTENT
MISSING = AttributeStatus.MISSING
MALFORMED = AttributeStatus.MALFORMED
IMPLAUSIBLE = AttributeStatus.IMPLAUSIBLE
CONFLICT = AttributeStatus.CONFLICT_HEADER
NOT_ASSESSED = AttributeStatus.NOT_ASSESSED

# As the challenge sets made from ChestX-ray14 are: no unit, no birth date, a made-up study date.
SIIM: dict[str, Value] = {
    "PatientAge": "64",
    "PatientBirthDate": "",
    "PatientID": "",
    "StudyDate": "19010101",
    "AcquisitionDate": None,
    "Modality": "CR",
    "LossyImageCompression": "01",
}


@pytest.mark.parametrize(
    ("changes", "age", "sex"),
    [
        ({}, CONSISTENT, CONSISTENT),
        (SIIM, MALFORMED, CONSISTENT),
        ({"PatientAge": "000Y", "PatientSex": "O"}, IMPLAUSIBLE, NOT_ASSESSED),
        ({"PatientAge": "", "PatientSex": ""}, MISSING, MISSING),
        ({"PatientAge": None, "PatientSex": None}, MISSING, MISSING),
        ({"PatientAge": "UNK", "PatientSex": "UNK"}, MALFORMED, MALFORMED),
        ({"PatientAge": "063Y\\064Y", "PatientSex": "M\\F"}, MALFORMED, MALFORMED),
        ({"PatientAge": "999Y", "PatientSex": "U"}, IMPLAUSIBLE, MALFORMED),
        ({"PatientAge": "112Y", "PatientBirthDate": ""}, IMPLAUSIBLE, CONSISTENT),
        ({"PatientAge": "040Y"}, CONFLICT, CONSISTENT),
        ({"PatientBirthDate": "19600415", "StudyDate": "20990101"}, CONFLICT, CONSISTENT),
        ({"PatientAge": "040Y", "PatientBirthDate": "19000101"}, CONSISTENT, CONSISTENT),
        ({"PatientBirthDate": "1960.04.15"}, CONSISTENT, CONSISTENT),
        ({"PatientSex": "M", "StudyDescription": "pregnancy"}, CONSISTENT, CONFLICT),
        ({"PatientSex": "O", "StudyDescription": "pregnancy"}, CONSISTENT, NOT_ASSESSED),
        ({"PatientSex": "M", "GenderIdentityComment": "woman"}, CONSISTENT, NOT_ASSESSED),
        ({"PatientSex": "", "GenderIdentityComment": "woman"}, CONSISTENT, NOT_ASSESSED),
        ({"PatientSpeciesDescription": "Canine", "PatientAge": ""}, NOT_ASSESSED, NOT_ASSESSED),
        ({"QualityControlSubject": "YES", "PatientSex": ""}, NOT_ASSESSED, NOT_ASSESSED),
        ({"QualityControlImage": "YES"}, NOT_ASSESSED, NOT_ASSESSED),
        ({"PatientName": "TRAUMA^SEVEN", "PatientAge": ""}, MISSING, CONSISTENT),
    ],
)
def test_statuses(changes: dict[str, Value], age: AttributeStatus, sex: AttributeStatus) -> None:
    result = checked(changes)
    assert age_and_sex(result) == (age, sex)
    assert result.flagged == (not {age, sex} <= {CONSISTENT, NOT_ASSESSED})


@pytest.mark.parametrize(
    ("changes", "values"),
    [
        ({"PatientAge": "64", "PatientBirthDate": ""}, ["064Y"]),
        ({"PatientAge": "65Y", "PatientBirthDate": ""}, ["065Y"]),
        ({"PatientAge": "063y", "PatientBirthDate": ""}, ["063Y"]),
        ({"PatientAge": "5 months", "PatientBirthDate": ""}, ["005M"]),
        ({"PatientAge": b" 063Y ", "PatientBirthDate": ""}, ["063Y"]),
        ({"PatientAge": "063Y\\063Y"}, ["063Y"]),
        ({"PatientAge": "64"}, ["064Y", "063Y"]),
        # '3' of a newborn is not three years, as the dates know.
        ({"PatientAge": "3", "PatientBirthDate": "20230301"}, ["003M"]),
        ({"PatientAge": "0", "PatientBirthDate": ""}, []),
        ({"PatientAge": "999", "PatientBirthDate": ""}, []),
        ({"PatientAge": "UNK"}, ["063Y"]),
        ({"PatientAge": ""}, ["063Y"]),
        ({"PatientAge": "000Y"}, ["063Y"]),
        ({"PatientAge": "040Y"}, ["063Y"]),
        ({"PatientAge": "", "PatientBirthDate": "20230601"}, ["009D"]),
        ({"PatientAge": "", "PatientBirthDate": "20230501"}, ["005W"]),
        ({"PatientAge": "", "PatientBirthDate": "20220110"}, ["017M"]),
        ({"PatientAge": "", "PatientBirthDate": "20230101"}, []),
        ({"PatientAge": "", "PatientBirthDate": "19000101"}, []),
        ({"PatientAge": "", "PatientBirthDate": "20240101"}, []),
        ({"PatientAge": "", "PatientBirthDate": "18500202"}, []),
        ({"PatientAge": "", "PatientBirthDate": "10230102"}, []),
        ({"PatientAge": "", "LongitudinalTemporalInformationModified": "MODIFIED"}, []),
        ({"PatientAge": "", "PatientSpeciesDescription": "Canine"}, []),
        ({"PatientSex": "Male"}, ["M"]),
        ({"PatientSex": "m"}, ["M"]),
        ({"PatientSex": "FEMALE"}, ["F"]),
        ({"PatientSex": b" F"}, ["F"]),
        ({"PatientSex": "F\\F"}, ["F"]),
        *(({"PatientSex": text}, []) for text in ("U", "UNK", "1", "o", "M\\F", "", "W", "Other")),
        ({"PatientSex": "Male", "GenderIdentityComment": "x"}, []),
    ],
)
def test_proposals(changes: dict[str, Value], values: list[str]) -> None:
    assert [proposal.value for proposal in checked(changes).proposals] == values


def test_proposals_say_where_they_come_from() -> None:
    sent, computed = checked({"PatientAge": "64"}).proposals
    assert (sent.keyword, sent.source, sent.rule) == ("PatientAge", "PatientAge", "A1")
    assert computed.source == "PatientBirthDate and StudyDate"
    (only,) = checked({"PatientAge": ""}).proposals
    assert only.rule == "B3"


def test_proposals_from_other_studies_come_last_and_only_when_they_agree() -> None:
    lacking: dict[str, Value] = {"PatientSex": "", "PatientAge": "", "PatientBirthDate": ""}
    age, sex = checked(lacking, priors=(prior(),)).proposals
    assert (age.value, age.source) == ("063Y", "PatientBirthDate of other studies and StudyDate")
    assert (sex.value, sex.source, sex.rule) == ("F", "PatientSex of other studies", "B2")
    other = prior(uid="1.2.8", sex="O", birth_date="19600416")
    assert checked(lacking, priors=(prior(), other)).proposals == ()
    assert checked({**lacking, "PatientID": ""}, priors=(prior(),)).proposals == ()


def test_one_image_fills_the_other() -> None:
    result = checked({}, {"PatientSex": "", "PatientAge": ""})
    assert age_and_sex(result) == (CONFLICT, CONFLICT)
    assert [(p.keyword, p.value) for p in result.proposals] == [
        ("PatientAge", "063Y"),
        ("PatientSex", "F"),
    ]


def age_of(result: HeaderCheck) -> tuple[str, object]:
    row = result.attributes["PatientAge"]
    return row.recorded, row.value


def test_recorded_prefers_what_can_be_used_and_is_usual() -> None:
    result = checked({"PatientAge": "63"}, {"PatientAge": "63"}, {"PatientAge": "063Y"})
    assert age_of(result) == ("063Y", 63.0)
    result = checked({"PatientSex": "M"}, {"PatientSex": "F"}, {"PatientSex": "F"})
    assert result.attributes["PatientSex"].recorded == "F"
    result = checked(SIIM)
    assert age_of(result) == ("64", None)
    assert result.birth_date_age is None
    assert age_of(checked({"PatientAge": "000Y"}))[1] is None
    assert 63.1 < (checked().birth_date_age or 0) < 63.2


def test_censored_age_is_no_mismatch() -> None:
    result = checked({"PatientAge": "090Y", "PatientIdentityRemoved": "YES"})
    assert age_and_sex(result)[0] is CONSISTENT
    assert result.attributes["PatientAge"].censored
    assert age_of(result)[1] == 90
    identified = checked({"PatientAge": "090Y", "PatientBirthDate": ""})
    assert not identified.attributes["PatientAge"].censored


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"PatientSex": "O"}, ""),
        ({"ResponsiblePersonRole": "OWNER"}, "veterinary"),
        ({"QualityControlSubject": "YES"}, "quality control"),
        ({"PatientName": "Phantom"}, ""),
    ],
)
def test_exempt(changes: dict[str, Value], words: str) -> None:
    exempt = checked(changes).exempt
    assert words in exempt
    assert bool(words) == bool(exempt)


def test_one_image_of_quality_control_exempts_no_patient() -> None:
    assert checked({}, {"QualityControlImage": "YES"}).exempt == ""


def test_test_names_are_exempt_where_a_site_says_so() -> None:
    result = checked({"PatientName": "Phantom", "PatientAge": ""}, exclude_test_names=True)
    assert result.exempt
    assert age_and_sex(result)[0] is NOT_ASSESSED


def test_modified_dates_are_not_computed_with() -> None:
    result = checked({"PatientAge": "020Y", "LongitudinalTemporalInformationModified": "MODIFIED"})
    assert result.rules == ("D10",)
    assert result.birth_date_age is None


def test_a_disabled_rule_makes_not_assessed_of_what_it_would_have_found() -> None:
    assert age_and_sex(checked({"PatientAge": ""}, disabled=("B3",)))[0] is NOT_ASSESSED
    assert age_and_sex(checked({"PatientAge": "000Y"}, disabled=("C1",)))[0] is NOT_ASSESSED
    assert age_and_sex(checked({"PatientSex": "Male"}, disabled=("A3",)))[1] is NOT_ASSESSED


def test_priors_of_the_same_study_and_of_nobody_do_not_count() -> None:
    conflicting = prior(date(2023, 6, 10), sex="M", birth_date="19400101")
    assert age_and_sex(checked(priors=(conflicting,)))[1] is CONFLICT
    assert age_and_sex(checked({"PatientID": ""}, priors=(conflicting,)))[1] is CONSISTENT
    itself = checked({"StudyInstanceUID": "1.2.9"}, priors=(conflicting,))
    assert age_and_sex(itself)[1] is CONSISTENT


def test_no_header_is_nothing_to_assess() -> None:
    result = check([], settings=RulesSettings(), today=TODAY)
    assert age_and_sex(result) == (NOT_ASSESSED, NOT_ASSESSED)
    assert result.findings == ()


def test_reasons_quote_what_was_sent_in_ascii_on_one_line() -> None:
    result = checked({"PatientAge": "6\n\xb3\\x", "PatientSex": "m\xe4nnlich" * 20})
    reasons = [finding.reason for finding in result.findings]
    assert any("m\\xe4nnlich" in reason for reason in reasons)
    assert all(reason.isascii() and reason.isprintable() for reason in reasons)
    assert max(map(len, reasons)) < 200


def test_findings_of_one_rule_are_limited() -> None:
    many: list[dict[str, Value]] = [{"PatientAge": f"X{number}"} for number in range(50)]
    assert sum(finding.rule == "A1" for finding in checked(*many).findings) == 4


def test_a_name_never_makes_a_sex() -> None:
    for name in ("Meier^Anna", "Meier^Hans^^Mr.", "Meier^Anna^^Mrs."):
        assert checked({"PatientName": name, "PatientSex": ""}).proposals == ()
        assert age_and_sex(checked({"PatientName": name, "PatientSex": "M"}))[1] is CONSISTENT


def test_a_cleft_between_years_and_months_is_an_error() -> None:
    result = checked({"PatientAge": "063M"})
    assert {"E2", "E4"} <= set(result.rules)
    severities = {finding.rule: finding.severity for finding in result.findings}
    assert severities["E2"] is Severity.ERROR
    assert severities["E4"] is Severity.WARNING


ALONE: dict[str, Value] = {"PatientBirthDate": ""}
REMOVED: dict[str, Value] = {"PatientIdentityRemoved": "YES"}
FORMS_OF_66 = (
    *("66", "066", "66Y", "066y", "66 years", "66\\66", "066Y\\066Y"),
    *(b" 66Y", b" 066Y", b"066Y\0 "),
)
NO_AGES = ("0", "000", "120", "999", "UNK", "66\\67")


@pytest.mark.parametrize(
    ("changes", "years"),
    [
        *(({**ALONE, "PatientAge": text}, 66.0) for text in FORMS_OF_66),
        ({**ALONE, "PatientAge": "18M"}, 1.5),
        ({"PatientAge": "63"}, 63.0),
        ({"PatientAge": "64"}, 64.0),  # the dates make 63.2: within a unit
        ({"PatientAge": "66"}, None),  # the dates do not
        ({"PatientAge": "3", "PatientBirthDate": "20230301"}, None),
        ({**ALONE, "PatientAge": "66", "PatientWeight": "4.1"}, None),
        ({**ALONE, "PatientAge": "66", "PatientSize": "0.52"}, None),
        ({**ALONE, "PatientAge": "66", "StudyDescription": "Babygram"}, None),
        ({**ALONE, **REMOVED, "PatientAge": "66"}, 66.0),
        ({**ALONE, **REMOVED, "PatientAge": "90"}, None),  # '90 or over', a bound
        *(({**ALONE, "PatientAge": text}, None) for text in NO_AGES),
    ],
)
def test_what_an_age_in_a_wrong_form_means(changes: dict[str, Value], years: float | None) -> None:
    result = checked(changes)
    assert age_and_sex(result)[0] is MALFORMED, "what it means does not make it right"
    assert (result.attributes["PatientAge"].meant, trusted_age(result)) == (years, years)
    sent = [one.value for one in result.proposals if one.source == "PatientAge"]
    if years is not None:
        assert [parse_age(value) for value in sent] == [years], "it is what is proposed, too"


@pytest.mark.parametrize(
    ("changes", "sex"),
    [
        *(({"PatientSex": text}, "F") for text in ("f", "Female", b" F", "F\\F")),
        *(({"PatientSex": text}, "") for text in ("U", "1", "M\\F", "X")),
        ({"PatientSex": "Male", "StudyDescription": "pregnancy"}, ""),
        ({"PatientSex": "Male", "GenderIdentityComment": "x"}, ""),
    ],
)
def test_what_a_sex_in_a_wrong_form_means(changes: dict[str, Value], sex: str) -> None:
    assert trusted_sex(checked(changes)) == sex


def test_instances_that_mean_different_ages_mean_none() -> None:
    result = checked({**ALONE, "PatientAge": "66"}, {**ALONE, "PatientAge": "44"})
    assert (age_and_sex(result)[0], trusted_age(result)) == (MALFORMED, None)
    both = checked({**ALONE, "PatientAge": "66"}, {**ALONE, "PatientAge": "66", "Modality": "CR"})
    assert trusted_age(both) == 66.0


def test_other_studies_are_compared_with_what_an_age_or_a_sex_means() -> None:
    later = PriorStudy("1.2.9", date(2024, 1, 1), "F", "", 50.0)
    result = checked({**ALONE, "PatientAge": "66", "PatientSex": "Male"}, priors=(later,))
    assert {"G3", "G4"} <= set(result.rules)
    assert (trusted_age(result), trusted_sex(result)) == (None, ""), "and no longer believed"
