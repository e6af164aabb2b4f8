"""What ``conclude`` makes of anything at all, and the files that say it."""

import csv
import io
import json
import random
import re
import stat
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from dicom_ai_node.answers import Answer, Outcome, Reason
from dicom_ai_node.archive.member import Collected, StudyFacts
from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.conclude import AuditReport
from dicom_ai_node.audit.report import plots, write_report
from dicom_ai_node.audit.report.page import page
from dicom_ai_node.audit.report.tables import (
    Identifiers,
    patients_table,
    rates_table,
    studies_table,
)
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.config.stages import FillSettings
from dicom_ai_node.decide.stored import answer_from_json, check_from_json
from dicom_ai_node.rules import TextHeader, check
from dicom_ai_node.rules.attributes import AGE, SEX
from dicom_ai_node.rules.text_header import ELEMENTS
from dicom_ai_node.types import AttributeStatus
from tests.builders import answers, scores
from tests.builders.checks import age_and_sex
from tests.builders.headers import TODAY, Value, header

RULES = RulesSettings()
FILL = FillSettings()


def collected(key: str, **changes: Value) -> Collected:
    own = header(**{"StudyInstanceUID": f"1.2.{key}", "PatientID": key, **changes})
    return Collected(f"1.2.{key}", StudyFacts(f"1.2.{key}", (own,)))


def estimated(one: Collected, age: float, female: float) -> Collected:
    assert one.facts is not None
    own = check(one.facts.headers, settings=RULES, today=TODAY)
    said: dict[str, Answer | Reason] = {
        "age": answers.age(age, 6.0, (age - 10, age + 10)),
        "sex": answers.sex(female),
    }
    result = answers.study_result(one.key, Outcome.ESTIMATED, own, answers=said)
    return replace(one, result=result)


def concluded(
    collection: list[Collected],
    *,
    complete: bool = True,
    model: str = "m 1",
    fill: FillSettings = FILL,
    rules: RulesSettings = RULES,
    **spec: object,
) -> AuditReport:
    wanted = AuditSpec(source="pacs:MAIN", today=TODAY, **spec)
    more = {"complete": complete, "rules": rules, "fill": fill}
    return scores.concluded(wanted, collection, model=model, **more)


def ward() -> list[Collected]:
    """Studies of which the last has another's image and the first three other troubles."""
    rng = random.Random(2)
    # No two share a name or a birth date.
    names = [f"{'abcdefghij'[at // 10] * 3}^{'klmnopqrst'[at % 10] * 3}" for at in range(100)]
    births = [f"1960{1 + at % 5:02d}{2 + at // 5:02d}" for at in range(100)]
    fine = [
        estimated(
            collected(
                f"{100 + at}",
                PatientName=names[at],
                PatientBirthDate=births[at],
                StationName="R1",
                Manufacturer="Acme",
            ),
            63 + rng.gauss(0, 6),
            0.999,
        )
        for at in range(100)
    ]
    return [
        Collected("1.9.1", None, fault="timed out after 30 s", expected=4, arrived=0),
        collected("900", PatientAge="", PatientName="One^Alpha", StationName="R2"),
        estimated(collected("902", PatientName="Three^Beta", StationName="R1"), 21.0, 0.0001),
        *fine,
    ]


@pytest.fixture(scope="module")
def report() -> AuditReport:
    return concluded(ward())


def test_a_study_is_said_what_its_header_its_image_and_its_source_say(report: AuditReport) -> None:
    said = {one.key: one for one in report.studies}
    assert said["1.9.1"].check.rules == ("S1", "S2")
    assert said["1.9.1"].fault == "timed out after 30 s"
    assert said["1.2.900"].check.rules == ("B3",)
    mixed = said["1.2.902"]
    assert mixed.check.rules == ("H1", "H2", "H3")
    assert age_and_sex(mixed.check) == (AttributeStatus.CONFLICT_IMAGE,) * 2
    assert mixed.suspicion.alert
    assert mixed.suspicion.mix_up
    assert report.budget.alerts == 1
    assert report.budget.expected_ppv is not None
    assert report.budget.expected_ppv > 0.9
    assert said["1.2.150"].check.rules == ()
    assert said["1.2.150"].origin.station == "R1"


@pytest.mark.parametrize("budget", [None, 2.0])
@pytest.mark.parametrize(
    ("disabled", "left"),
    [
        (("H1",), ("H2",)),
        (("H2",), ("H1",)),
        (("H3",), ("H1", "H2")),
        (("H1", "H2"), ()),
        (("H1", "H2", "H3", "H4"), ()),
    ],
)
def test_a_disabled_rule_of_the_image_is_silent_and_alerts_nobody(
    disabled: tuple[str, ...], left: tuple[str, ...], budget: float | None
) -> None:
    rules = RulesSettings(disabled=disabled)
    said = concluded(ward(), rules=rules, alerts_per_day=budget)
    mixed = next(one for one in said.studies if one.key == "1.2.902")
    assert mixed.check.rules == left
    assert {one for study in said.studies for one in study.check.rules}.isdisjoint(disabled)
    suspicion = mixed.suspicion
    assert suspicion.mix_up is False
    found = [AGE in suspicion.found, SEX in suspicion.found]
    assert found == ["H1" in left, "H2" in left]
    assert suspicion.alert is bool(left)
    assert (said.budget.alerts > 0) is bool(left)
    assert (age_and_sex(mixed.check)[0] is AttributeStatus.CONFLICT_IMAGE) is ("H1" in left)
    assert (age_and_sex(mixed.check)[1] is AttributeStatus.CONFLICT_IMAGE) is ("H2" in left)


def test_a_stricter_false_discovery_rate_finds_less_and_is_said() -> None:
    doubtful = estimated(collected("950", PatientName="Four^Gamma"), 63 - 15.0, 0.999)
    some = [doubtful, *ward()]
    rates = (0.5, 0.025)
    lax, strict = (concluded(some, false_discovery_rate=rate) for rate in rates)
    assert [
        AGE in next(one for one in said.studies if one.key == doubtful.key).suspicion.found
        for said in (lax, strict)
    ] == [True, False]
    assert "2.5 %" in page(strict)


def test_rates_are_of_every_group_and_month(report: AuditReport) -> None:
    rates = {(one.by, one.group): one for one in report.rates}
    assert (rates["station", "R1"].studies, rates["station", "R1"].flagged) == (101, 1)
    assert rates["station", "R2"].rules == {"B3": 1}
    assert rates["station month", "R1 2023-06"].studies == 101
    assert rates["month", "2023-06"].studies == 102
    assert rates["manufacturer", ""].studies == 2
    low, high = rates["station", "R1"].interval
    assert low < 1 / 101 < high


def test_the_findings_of_a_single_study_do_not_come_back() -> None:
    """A result was decided alone, by the policy's thresholds: the batch decides anew."""
    one = estimated(collected("1"), 45.0, 0.01)
    assert one.result is not None
    own = one.result.check.with_status("PatientAge", AttributeStatus.CONFLICT_IMAGE)
    (said,) = concluded([replace(one, result=replace(one.result, check=own))]).studies
    assert age_and_sex(said.check)[0] is AttributeStatus.CONSISTENT or "H1" in said.check.rules


def test_the_budget_is_of_days_with_studies() -> None:
    days = [f"202306{day:02d}" for day in (1, 1, 5, 9)]
    some = [collected(str(at), StudyDate=day) for at, day in enumerate(days)]
    said = concluded(some, alerts_per_day=0.5).budget
    assert (said.days, said.alerts_per_day, said.alerts) == (3, 0.5, 0)


def test_it_says_of_how_many_studies_only_answers_to_queries_were_had() -> None:
    one, other = collected("1"), collected("2")
    assert other.facts is not None
    queried = replace(other, facts=replace(other.facts, from_files=False))
    said = concluded([one, queried, Collected("1.9", None, fault="gone")])
    assert said.whole_headers == 1
    assert "of 1 of 3 studies" in page(said)


def test_the_best_proposal_of_the_ladder_is_told_with_its_source() -> None:
    ageless = {"PatientAge": "", "PatientBirthDate": ""}
    some = [
        estimated(collected("1", **ageless), 63.7, 0.99),
        estimated(collected("2", PatientAge=""), 21.0, 0.99),
        collected("3", **ageless),
        estimated(collected("4", **ageless, QualityControlSubject="YES"), 63.7, 0.99),
        estimated(collected("5"), 63.7, 0.99),
    ]
    report = concluded(some)
    said = [[(made.keyword, made.value, made.source) for made in one.proposals]
            for one in report.studies]  # fmt: skip
    assert said == [
        [("PatientAge", "064Y", "inference")],
        [("PatientAge", "063Y", "dates")],
        [],
        [],
        [],
    ]
    assert report.studies[0].proposals[0].interval90 == pytest.approx((53.7, 73.7))
    rows = csv.DictReader(io.StringIO(studies_table(report), newline=""))
    cells = [row["proposals"] for row in rows]
    guess = "estimate 63.7 years, 90 % interval 53.7 to 73.7, unknown network"
    assert cells[:2] == [
        f"PatientAge=064Y (inference: {guess})",
        "PatientAge=063Y (dates: PatientBirthDate and StudyDate)",
    ]
    html = page(report)
    assert f'PatientAge 064Y, from <span class="tag">inference</span> {guess}' in html
    off = concluded(some, fill=FillSettings(propose=False))
    assert not any(one.proposals for one in off.studies)


def test_what_is_not_assessable_is_information() -> None:
    one = collected("1")
    assert one.facts is not None
    own = check(one.facts.headers, settings=RULES, today=TODAY)
    refused = answers.study_result(one.key, Outcome.REFUSED, own, reason=Reason("x", "no image"))
    (said,) = concluded([replace(one, result=refused)]).studies
    assert said.check.rules == ("H4",)
    assert not said.check.flagged
    off = RulesSettings(disabled=("H4",))
    (silent,) = concluded([replace(one, result=refused)], rules=off).studies
    assert silent.check.rules == ()


def test_one_study_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="twice"):
        concluded([collected("1"), collected("1")])


anything = st.dictionaries(st.sampled_from(sorted(ELEMENTS)), st.text(max_size=12))
texts = st.sampled_from(["20230610", "19600415", "063Y", "M", "F", "O", "A^B", "1", ""])
likely = st.dictionaries(st.sampled_from(sorted(ELEMENTS)), texts)
headers = st.builds(TextHeader, anything | likely)
facts = st.builds(
    StudyFacts,
    st.text(max_size=8),
    st.lists(headers, max_size=3).map(tuple),
    st.none() | headers,
    st.booleans(),
)
studies = st.lists(
    st.builds(
        Collected,
        st.text(min_size=1, max_size=8),
        st.none() | facts,
        expected=st.none() | st.integers(0, 9),
        arrived=st.none() | st.integers(0, 9),
        fault=st.sampled_from(["", "gone"]),
    ),
    max_size=8,
    unique_by=lambda one: one.key,
)


@settings(deadline=None, max_examples=60)
@given(studies, st.randoms(use_true_random=False))
def test_whatever_was_collected_is_concluded_and_told(
    collection: list[Collected], rng: random.Random
) -> None:
    said = concluded(collection)
    assert [one.key for one in said.studies] == sorted(one.key for one in collection)
    mixed = list(collection)
    rng.shuffle(mixed)
    assert concluded(mixed) == said
    assert page(said)
    assert len(list(csv.reader(io.StringIO(studies_table(said), newline="")))) == len(mixed) + 1
    assert rates_table(said)


def test_the_files_are_written_and_hold_nothing_that_is_not_theirs(
    report: AuditReport, tmp_path: Path
) -> None:
    made = write_report(report, tmp_path / "new" / "folder")
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    names = [path.name for path in made]
    assert names == ["report.html", "studies.csv", "patients.csv", "rates.csv", "report.json"]
    assert sorted(path.name for path in made[0].parent.iterdir()) == sorted(names)
    texts = {path.name: path.read_text(encoding="utf-8") for path in made}
    assert json.loads(texts["report.json"])["studies"][0]["key"] == "1.2.100"
    assert read(texts["report.json"]) == report
    for text in texts.values():
        assert "Alpha" not in text
        assert "Three" not in text
    again = write_report(report, tmp_path / "new" / "folder")
    assert [path.read_text(encoding="utf-8") for path in again] == [*texts.values()]


def read(text: str) -> AuditReport:
    """What the JSON of a report says."""
    values = json.loads(text)
    for study in values["studies"]:
        study["check"] = check_from_json(study.pop("audit"))
        said = {name: study.pop(name) for name in ("age", "sex")}
        study["answers"] = {
            name: asdict(answer_from_json(name, answer)) for name, answer in said.items() if answer
        }
        odds = study["suspicion"]
        names = {"PatientAge": "age", "PatientSex": "sex"}
        found = {keyword: odds.pop(f"{name}_found") for keyword, name in names.items()}
        odds["found"] = [keyword for keyword in found if found[keyword]]
        probable = {keyword: odds.pop(f"{name}_p") for keyword, name in names.items()}
        odds["probable"] = {key: p for key, p in probable.items() if p is not None}
    types = get_type_hints(AuditReport)
    read = {name: TypeAdapter(types[name]).validate_python(values[name]) for name in values}
    return AuditReport(**read)


def test_a_patient_has_one_line() -> None:
    ages = {"1": "", "2": "", "3": "063Y"}
    some = [collected(key, PatientID="P", PatientAge=age) for key, age in ages.items()]
    nobody = collected("4", PatientID="")
    _, row = csv.reader(io.StringIO(patients_table(concluded([*some, nobody])), newline=""))
    assert len(row[0]) == 64
    assert row[1:] == ["3", "2", "0", "0", "B3:2"]


def named(*keywords: str) -> tuple[AuditReport, Identifiers]:
    one = collected(
        "1", PatientID="P\u00c4 7 ", AccessionNumber="=A1", SpecificCharacterSet="ISO_IR 192"
    )
    both = collected("2", PatientID="P2", AccessionNumber="")
    assert both.facts is not None
    listed = replace(both.facts, listed=TextHeader({"AccessionNumber": "L2", "PatientID": "X"}))
    some = [one, replace(both, facts=listed), Collected("1.9", None, fault="gone")]
    return concluded(some), Identifiers.of(some, keywords)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_identifiers_are_in_the_csv_and_nowhere_else(tmp_path: Path) -> None:
    report, identifiers = named("PatientID", "AccessionNumber")
    studies = rows_of(studies_table(report, identifiers))
    assert [(one["accession_number"], one["patient_id"]) for one in studies] == [
        ("'=A1", "P\u00c4 7"),
        ("L2", "P2"),
        ("", ""),
    ]
    patients = rows_of(patients_table(report, identifiers))
    assert {(one["patient_id"], len(one["patient"])) for one in patients} == {
        ("P\u00c4 7", 64),
        ("P2", 64),
    }
    for path in write_report(report, tmp_path, identifiers=identifiers):
        text = path.read_text(encoding="utf-8")
        assert ("P\u00c4 7" in text) is (path.name in ("studies.csv", "patients.csv"))
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("keywords", [(), ("AccessionNumber",)])
def test_identifiers_that_are_not_asked_for_are_in_no_file(
    tmp_path: Path, keywords: tuple[str, ...]
) -> None:
    report, identifiers = named(*keywords)
    for path in write_report(report, tmp_path, identifiers=identifiers):
        text = path.read_text(encoding="utf-8")
        assert "P\u00c4 7" not in text
        assert "patient_id" not in text
        assert ("L2" in text) is (bool(keywords) and path.name == "studies.csv")


def test_the_page_needs_no_network_and_no_script(report: AuditReport) -> None:
    html = page(report)
    assert re.findall(r"https?://|<script|<link|<img|@import|url\(", html) == []
    assert html.count("<svg") == 5, "the stations in two widths"
    assert "Not a medical device" in html
    assert "not complete" not in html
    assert "not complete" in page(concluded(ward()[:3], complete=False))


def test_an_alert_comes_before_bad_headers() -> None:
    worst = collected("950", PatientBirthDate="20990101", PatientSex="?", PatientName="x^y")
    html = page(concluded([*ward(), worst]))
    section = html[html.index("Worst offenders") : html.index("Flagged studies by station")]
    assert section.index("1.2.902") < section.index("1.2.950")


def test_what_a_header_says_is_text_and_nothing_else() -> None:
    bad = "<script>alert(1)</script>\"'"
    one = collected("1", PatientSex=bad, StationName=bad, Manufacturer=bad, PatientName="a^b")
    some = [replace(one, fault=bad), *(collected(str(at), StationName=bad) for at in range(2, 9))]
    html = page(concluded(some))
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_what_a_header_hides_is_seen_on_the_page_and_in_its_plots() -> None:
    bad = "R\x9bMOOR\x1b[2J"
    made = [collected(str(at), StationName=bad, PatientSex="x") for at in range(1, 30)]
    report = concluded([replace(made[0], fault="timed \u202eout"), *made[1:]])
    html = page(report)
    assert "R\\x9bMOOR\\x1b[2J" in html
    assert "timed \\u202eout" in html
    for content in (html, studies_table(report), rates_table(report)):
        assert not {"\u202e", "\x1b", "\x9b"} & set(content)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1"])
def test_a_spreadsheet_computes_nothing(text: str) -> None:
    own = TextHeader({"PatientSex": text, "StationName": text, "PatientID": "1"})
    said = concluded([Collected("=1.2", StudyFacts("1.2", (own,)), fault=text)])
    for table in (studies_table(said), rates_table(said)):
        for row in csv.reader(io.StringIO(table, newline="")):
            for cell in row:
                assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))


def test_a_page_of_a_large_audit_stays_small() -> None:
    many = [collected(f"{at:04d}", PatientAge="", PatientName="") for at in range(700)]
    html = page(concluded(many))
    assert "The first 500 of 700" in html
    assert html.count('class="uid"') == 500


def test_an_empty_audit_is_a_report_too() -> None:
    said = concluded([], model="")
    assert (said.studies, said.rates) == ((), ())
    assert "No network was asked" in page(said)


def test_months_of_a_wrong_date_do_not_stretch_the_plot() -> None:
    some = [collected(f"{at:02d}", StudyDate=f"2023{at % 12 + 1:02d}10") for at in range(48)]
    wrong = collected("99", StudyDate="10000101")
    html = page(concluded([*some, wrong]))
    assert ">2023-01<" in html
    assert ">1000-01<" not in html
    assert concluded([wrong]).studies[0].study_date == date(1000, 1, 1)


def test_studies_dated_in_the_future_do_not_end_the_plot() -> None:
    some = [
        collected(f"{at:02d}", StudyDate=f"2023{at % 3 + 1:02d}10", StationName="R1")
        for at in range(12)
    ]
    later = [collected(f"9{at}", StudyDate="20990101", StationName="R2") for at in range(3)]
    html = page(concluded([*some, *later]))
    plot = html[html.index("Flagged studies by station and month") :]
    plot = plot[: plot.index("</section>")]
    assert ">2023-01<" in plot
    assert ">2099-01<" not in plot
    assert plot.count("<polyline") == page(concluded(some)).count("<polyline") == 1


def section(html: str, title: str) -> str:
    begin = html.index(f"<h2>{title}")
    return html[begin : html.index("</section>", begin)]


def test_each_station_is_drawn_over_its_own_months_and_none_without_any() -> None:
    def of(station: str, first: int, months: int) -> list[Collected]:
        return [
            collected(
                f"{first}{at:03d}",
                StationName=station,
                StudyDate=f"{first + at % months // 12}{at % months % 12 + 1:02d}10",
            )
            for at in range(3 * months)
        ]

    some = [*of("OLD", 2005, 2), *of("NEW", 2021, 14), *of("ONCE", 2016, 1)]
    some += [collected("9", StationName="RARE", StudyDate="20200110")]
    plot = section(page(concluded(some)), "Flagged studies by station and month")
    panels = re.findall(r"<svg.*?</svg>", plot)
    spans = {
        re.findall(r'class="strong">([^<]+)<', one)[0]: re.findall(r">(\d{4}-\d\d)<", one)
        for one in panels
    }
    assert spans == {
        "OLD": ["2005-01", "2005-02"],
        "NEW": ["2021-01", "2022-02"],
        "ONCE": ["2016-01"],
    }
    for one in panels:
        ends = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', one)]
        assert all(40 <= x <= 328 for x in ends)
        assert (min(ends), max(ends)) in {(40.0, 328.0), (184.0, 184.0)}


def test_a_plot_without_data_has_no_frame() -> None:
    for some in ([], [Collected("1.9", None, fault="gone")]):
        html = page(concluded(some, model=""))
        assert "<svg" not in html
        assert "Flagged studies by station" not in html


@pytest.mark.parametrize(
    "grave",
    [
        {"PatientAge": "999Y"},
        {"PatientBirthDate": "20990101", "PatientAge": ""},
        {"PatientSex": "M", "StudyDescription": "Pregnancy, before discharge"},
    ],
)
def test_a_single_grave_error_is_among_the_worst(grave: dict[str, str]) -> None:
    formal = [
        collected(f"{at}", PatientAge="63", PatientName=f"A{at}^B", PatientBirthDate="")
        for at in range(60)
    ]
    worst = section(page(concluded([*formal, collected("77", **grave)])), "Worst offenders")
    assert "1.2.77<" in worst
    assert worst.index("1.2.77<") < worst.index("1.2.0<"), "before what is only badly written"
    sound = [collected("78")]
    assert "None." in section(page(concluded(sound)), "Worst offenders")


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("ROOM 1", "ROOM 1"),
        ("W" * 30, "W" * 7 + "\u2026"),
        (
            "\u653e\u5c04\u7dda\u79d1\u7b2c\u4e00\u64ae\u5f71\u5ba4",
            "\u653e\u5c04\u7dda\u79d1\u7b2c\u4e00\u64ae\u2026",
        ),
    ],
)
def test_a_label_is_cut_before_it_leaves_its_plot(label: str, shown: str) -> None:
    svg = plots.forest([plots.Share(label, 0.5, (0.4, 0.6), 9)], title="t")
    assert f">{shown}<" in svg


def test_the_page_is_made_for_a_telephone_too(report: AuditReport) -> None:
    html = page(report)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "@media (max-width: 560px)" in html
    tables = re.findall(r"<table[^>]*>", html)
    assert tables.count('<table class="stack">') == 4
    for row in re.findall(r'<table class="stack">.*?</table>', html, re.DOTALL):
        assert "<thead>" in row


def test_the_page_is_in_plain_english(report: AuditReport) -> None:
    text = re.sub(r"<[^>]+>", " ", page(report))
    for words in ("held against", "wholly", "could be had", "not had", "told", "manners"):
        assert words not in text
