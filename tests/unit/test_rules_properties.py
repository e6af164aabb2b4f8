"""What holds for every header, however it was filled."""

from datetime import date, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.dicom.body_parts import BODY_PARTS
from dicom_ai_node.rules import RULES, TextHeader, check, parse_age
from dicom_ai_node.rules.ages_and_dates import completed, encode_age_at, years_between
from dicom_ai_node.rules.text_header import ELEMENTS
from dicom_ai_node.types import AttributeStatus, HeaderCheck, PriorStudy
from tests.builders.checks import age_and_sex
from tests.builders.headers import SOUND, TODAY, dataset

SETTINGS = RulesSettings()
ABOUT = {"age", "sex", "body_part", "dates", "identity", "image"}
few = settings(max_examples=80, deadline=None)

# Likely values, so that the rules meet, and any bytes at all.
ages = st.sampled_from(["063Y", "000D", "000Y", "999Y", "63", "003M", "090Y", "UNK", ""])
sexes = st.sampled_from(["M", "F", "O", "", "U", "Male", " M"])
days = st.dates().map(lambda day: f"{day.year:04d}{day.month:02d}{day.day:02d}")
parts = st.sampled_from(["CHEST", "KNEE", "HAND", "LUNG", "Chest^PA", "C-SPINE", "XYZ", ""])
words = st.sampled_from(["CT Thorax/Abdomen", "left knee", "both hands", "LWS", "chest pain", ""])
likely = {
    "PatientAge": ages,
    "PatientSex": sexes,
    "PatientBirthDate": days,
    "StudyDate": days,
    "AcquisitionDate": days,
    "PatientIdentityRemoved": st.sampled_from(["YES", "NO"]),
    "BodyPartExamined": parts,
    "Laterality": st.sampled_from(["L", "R", "B", "U", ""]),
    "Modality": st.sampled_from(["CR", "CT", "MR"]),
    **dict.fromkeys(("StudyDescription", "SeriesDescription", "ProtocolName"), words),
    "AnatomicRegionSequence": st.sampled_from([b"816094009", b"T-D3000\\Chest", b"x"]),
    "PregnancyStatus": st.integers(0, 65535),
    "SpecificCharacterSet": st.sampled_from(["", "ISO_IR 192", "\\ISO 2022 IR 87", "GB18030", "x"]),
}
anything = st.none() | st.binary(max_size=24)
values: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={keyword: likely.get(keyword, st.nothing()) | anything for keyword in ELEMENTS},
)
headers = values.map(lambda changes: TextHeader.from_dataset(dataset(**changes)))
typed_headers = st.builds(
    TextHeader,
    st.dictionaries(st.sampled_from(sorted(ELEMENTS)), st.text(max_size=20)),
)
priors = st.builds(
    PriorStudy,
    st.sampled_from(["1.2.3", "1.2.4", "1.2.5"]),
    st.none() | st.dates(),
    sexes,
    days | st.text(max_size=10),
    st.none() | st.floats(),
)


def run(study: list[TextHeader], others: list[PriorStudy]) -> HeaderCheck:
    return check(study, priors=others, settings=SETTINGS, today=TODAY)


@few
@given(st.lists(headers | typed_headers, max_size=4), st.lists(priors, max_size=3))
def test_check_is_total(study: list[TextHeader], others: list[PriorStudy]) -> None:
    result = run(study, others)
    assert list(result.statuses) == ["age", "sex", "body_part"]
    assert all(isinstance(one, AttributeStatus) for one in result.statuses.values())
    assert not result.exempt or {*result.statuses.values()} == {AttributeStatus.NOT_ASSESSED}
    assert set(result.rules) <= set(RULES)
    for finding in result.findings:
        assert finding.attribute in ABOUT
        assert finding.reason.isascii()
        assert finding.reason.isprintable()
    for proposal in result.proposals:
        if proposal.keyword == "PatientAge":
            assert parse_age(proposal.value) is not None
        else:
            codes = {"PatientSex": {"M", "F"}, "BodyPartExamined": set(BODY_PARTS)}
            assert proposal.value in codes[proposal.keyword]
    years = result.attributes["PatientAge"].number
    assert years is None or 0 <= years < 120
    assert result.birth_date_age is None or 0 <= result.birth_date_age <= 125


@few
@given(st.data(), st.lists(headers, min_size=1, max_size=4), st.lists(priors, max_size=3))
def test_order_does_not_matter(
    data: st.DataObject, study: list[TextHeader], others: list[PriorStudy]
) -> None:
    shuffled = run(data.draw(st.permutations(study)), data.draw(st.permutations(others)))
    assert run(study, others) == shuffled


@few
@given(headers, st.lists(priors, max_size=3), st.lists(sexes, max_size=2))
def test_other_is_respected(
    header: TextHeader, others: list[PriorStudy], further: list[str]
) -> None:
    study = [TextHeader({**header.values, "PatientSex": sex}) for sex in ["O", *further]]
    result = run(study, others)
    assert age_and_sex(result)[1] is AttributeStatus.NOT_ASSESSED
    assert all(proposal.keyword != "PatientSex" for proposal in result.proposals)
    assert not {"G1", "G4"} & {found.rule for found in result.findings if found.attribute == "sex"}


@few
@given(headers, st.integers(89, 119))
def test_deidentified_and_old_is_never_a_mismatch(header: TextHeader, age: int) -> None:
    values = {**SOUND, "PatientAge": f"{age:03d}Y", "PatientIdentityRemoved": "YES"}
    dates = {k: header[k] for k in ("PatientBirthDate", "StudyDate", "PatientWeight")}
    result = run([TextHeader({**values, **dates})], [])
    assert result.attributes["PatientAge"].censored
    assert age_and_sex(result)[0] in {AttributeStatus.CONSISTENT, AttributeStatus.IMPLAUSIBLE}
    assert age_and_sex(result)[0] is AttributeStatus.CONSISTENT or "C2" in result.rules


@few
@given(headers, st.sampled_from(sorted(RULES)))
def test_disabling_a_rule_takes_away_its_findings_and_no_others(
    header: TextHeader, identifier: str
) -> None:
    without = RulesSettings(disabled=(identifier,))
    left = check([header], settings=without, today=TODAY).findings
    assert left == tuple(found for found in run([header], []).findings if found.rule != identifier)


@given(st.dates(max_value=date(2100, 1, 1)), st.integers(0, 50_000))
def test_years_between_counts_birthdays(birth: date, span: int) -> None:
    day = birth + timedelta(days=span)
    years = years_between(birth, day)
    assert int(years) == completed(birth, day, "Y")
    assert abs(years - span / 365.2425) < 0.02
    assert years_between(day, birth) == -years
    assert parse_age(encode_age_at(birth, day)) is not None
