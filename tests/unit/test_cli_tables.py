"""The tables as somebody reads them, at 80 columns and in a pipe."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from dicom_ai_node.analyse.results import to_json
from dicom_ai_node.answers import ImageRef, ImageResult, ModelIdentity, Outcome, Reason, StudyResult
from dicom_ai_node.cli import app
from dicom_ai_node.cli.printing import cut_left, cut_right, shown_path
from dicom_ai_node.store import Database
from dicom_ai_node.store.instances import record_quarantine
from dicom_ai_node.store.patients import StudyHeader
from dicom_ai_node.store.reports import NewReport, StoredFile
from dicom_ai_node.store.results import NewAnalysis, finish
from dicom_ai_node.store.study_queue import close_due
from dicom_ai_node.terminal import console
from dicom_ai_node.types import AttributeStatus, Finding, Proposal, Severity
from tests.builders.answers import age, prediction, study_result
from tests.builders.checks import header_check
from tests.builders.dicom_bytes import AGE, EXPLICIT, UIDS, data_set, dicom_file
from tests.builders.questions import regions_by_series
from tests.builders.rows import CR, SR, TIMING, claim_one, file_instance

LONG = "1.2.826.0.1.3680043.10.1." + "1234567890." * 3 + "123456"
assert len(LONG) == 64
SOP = f"{LONG[:-1]}9"
Run = Callable[..., list[str]]


def answer() -> StudyResult:
    """A recorded age that the image is against, and a sex of which nothing is stated."""
    findings = (
        Finding("I4", Severity.INFORMATION, "image", "LossyImageCompression is 01"),
        Finding("D5", Severity.WARNING, "dates", "Study and acquisition are three days apart"),
        Finding("H1", Severity.ERROR, "age", "the recorded age is improbable for the image"),
    )
    check = header_check(
        AttributeStatus.CONFLICT_IMAGE,
        AttributeStatus.NOT_ASSESSED,
        recorded=("010Y", "O"),
        years=10.0,
        findings=findings,
        proposals=(Proposal("PatientAge", "066Y", "PatientBirthDate and StudyDate", "E2"),),
    )
    seen = prediction(63.2, 6.0, (52.1, 74.4), 0.7)
    image = ImageResult(ImageRef(CR, SOP, "1.2.3"), Outcome.ESTIMATED, None, seen)
    why = Reason("sex_not_assessed", "no sex is stated: PatientSex is O")
    return study_result(
        LONG,
        Outcome.ESTIMATED,
        check,
        images=(image,),
        answers={"age": age(63.2, 6.0, (52.1, 74.4)), "sex": why},
        model=ModelIdentity("chest-age-sex", "1.4", "ab" * 32),
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A node with an answered study of long UIDs, one that waits, and one object put aside."""
    db = Database(f"sqlite:///{tmp_path / 'node.db'}")
    db.upgrade()
    file_instance(db, LONG, SOP, now=50)
    close_due(db, now=100, settings=TIMING)
    report = NewReport("sr", (StoredFile(SR, f"{LONG[:-1]}8", "reports/a.dcm"),))
    new = NewAnalysis("k1", to_json(answer()), True, (report,), inferred=True)
    done = finish(
        db,
        claim_one(db, now=100),
        new,
        header=StudyHeader("", "20240105", "O", "", 10.0),
        destinations={"pacs": frozenset({"sr"})},
        reason=None,
        now=100,
    )
    assert done
    file_instance(db, "1.2.3", "1.2.3.9", now=200)
    for number in (1, 2):
        record_quarantine(
            db,
            path=f"quarantine/{number:064d}.dcm",
            calling_ae="MODALITY",
            reason="SOPInstanceUID is not a UID",
            now=300,
        )
    db.close()
    path = tmp_path / "node.toml"
    path.write_text('[storage]\nspool = "spool"\ndatabase = "sqlite:///node.db"\n')
    (tmp_path / "spool" / "quarantine").mkdir(parents=True)
    (tmp_path / "spool" / "quarantine" / f"{1:064d}.dcm").touch()
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what prints a command's lines at a width."""

    def lines(*arguments: object, width: int = 80, code: int = 0) -> list[str]:
        monkeypatch.setattr(console, "_width", width)
        done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done.stdout.splitlines()

    return lines


def test_studies_say_what_was_recorded_what_is_estimated_and_what_is_wrong(
    config: Path, run: Run
) -> None:
    lines = run("studies", "-c", config)
    assert max(map(cell_len, lines)) <= 80
    assert lines[1].split()[:1] == ["collecting"]
    assert f"  {LONG}" in lines
    row = lines[lines.index(f"  {LONG}") - 1]
    for text in (
        "2024-01-05",
        "010Y O",
        "63 (52-74)",
        "age against the image",
        "D5 H1",
        "reported",
    ):
        assert text in row
    assert "I4" not in row


def test_in_a_pipe_a_study_is_one_line(config: Path, run: Run) -> None:
    lines = run("studies", "-c", config, width=200)
    assert lines[0].split() == ["Study", "Date", "Recorded", *lines[0].split()[3:]]
    (row,) = (line for line in lines if line.startswith(LONG))
    assert "age against the image" in row


def test_json_has_it_too(config: Path, run: Run) -> None:
    found = [json.loads(line) for line in run("studies", "-c", config, "--json")]
    waiting, answered = found
    assert (waiting["recorded"], waiting["outcome"], waiting["rules"]) == (None, None, [])
    assert answered["study_date"] == "20240105"
    assert answered["status"] == {"age": "CONFLICT_IMAGE", "sex": "NOT_ASSESSED"}
    assert answered["age"]["interval90"] == [52.1, 74.4]
    assert answered["recorded"]["age"] == "010Y"


def test_show_begins_with_the_verdict(config: Path, run: Run) -> None:
    lines = run("show", LONG, "-c", config)
    assert max(map(cell_len, lines)) <= 80
    assert lines[0] == f"study {LONG}"
    verdict = "\n".join(lines[:13])
    for text in (
        "recorded  010Y O",
        "estimate  63 years (90 % between 52 and 74)",
        "verdict   age against the image",
        "flags     D5 H1",
        "no sex    no sex is stated: PatientSex is O",
        "proposed  PatientAge = 066Y, from PatientBirthDate and StudyDate",
        "network   chest-age-sex 1.4",
        "sent      sr to pacs: queued",
    ):
        assert text in verdict
    assert not any("{" in line for line in lines)
    rules = [line.split()[0] for line in lines if line.split()[:1] in (["H1"], ["D5"], ["I4"])]
    assert rules == ["H1", "D5", "I4"], "the gravest first, what holds of most files last"
    assert f"  {SOP}" in lines
    assert json.loads(run("show", LONG, "-c", config, "--json")[0])["result"]["age"]["mu"] == 63.2


def test_show_tells_many_images_by_series(config: Path, run: Run) -> None:
    """Two series of a CT that differ, and a third of reformats."""
    sample = regions_by_series()
    why = Reason("reformat", "The image is a reformat")
    (part,) = sample.result.parts
    reformats = [ImageRef(CR, f"1.2.77.{at}", "1.2.77") for at in range(8)]
    refused = [ImageResult(one, Outcome.REFUSED, why) for one in reformats]
    result = replace(sample.result, parts=(replace(part, images=(*part.images, *refused)),))
    db = Database(f"sqlite:///{config.parent / 'node.db'}")
    for image in (one.image for one in result.images):
        file_instance(db, "1.2.7", image.sop_instance_uid, series=image.series_instance_uid)
    close_due(db, now=1000, settings=TIMING)
    claimed = claim_one(db, now=1000)
    while claimed.study_uid != "1.2.7":
        claimed = claim_one(db, now=1000)
    finish(
        db, claimed, NewAnalysis("k", to_json(result), False, (), inferred=True),
        header=StudyHeader("", "20240105", "F", "", 63.0), destinations={}, reason=None, now=1000,
    )  # fmt: skip
    db.close()
    lines = run("show", "1.2.7", "-c", config)
    assert max(map(cell_len, lines)) <= 80
    at = lines.index("Series") + 1
    said = [line.split() for line in lines[at : at + 9]]
    assert said[0] == ["Series", "Images", "Read", "Shows"]
    assert said[1] == ["1", "2", "2", "body", "region", "CHEST"]
    assert lines[at + 2] == f"  {part.series[0].series_instance_uid}"
    assert said[3] == ["2", "2", "2", "body", "region", "ABDOMEN"]
    assert said[5] == ["3", "2", "2", "body", "region", "uncertain"]
    assert said[7] == ["4", "8", "0", "-"]
    assert "  series 4: 8 x The image is a reformat" in lines
    each = run("show", "1.2.7", "--images", "-c", config)
    assert sum("The image is a reformat" in line for line in each) == 8


def test_a_study_that_waits_is_shown(config: Path, run: Run) -> None:
    lines = run("show", "1.2.3", "-c", config)
    assert "state   collecting" in "\n".join(lines)


def test_what_was_put_aside_is_counted_and_listed(config: Path, run: Run) -> None:
    lines = run("quarantine", "-c", config)
    assert max(map(cell_len, lines)) <= max(80, cell_len(f"in {config.parent}/spool/quarantine"))
    assert lines[0] == "2 x SOPInstanceUID is not a UID"
    assert f"  {1:064d}.dcm" in lines
    assert f"  {2:064d}.dcm (gone)" in lines
    found = [json.loads(line) for line in run("quarantine", "-c", config, "--json")]
    assert [one["gone"] for one in found] == [True, False]
    said = "\n".join(run("status", "-c", config, code=1))
    assert "quarantine: 1 files, see dicom-ai-node quarantine" in said
    assert "2 x SOPInstanceUID is not a UID" in said
    (status,) = run("status", "-c", config, "--json", code=1)
    expected = [{"reason": "SOPInstanceUID is not a UID", "count": 2}]
    assert json.loads(status)["quarantined"] == expected


def test_headers_are_told_with_reasons_and_proposals(tmp_path: Path, run: Run) -> None:
    deep = tmp_path / "archive" / "a-folder-of-a-name-that-is-long" / "another-folder-of-the-like"
    deep.mkdir(parents=True)
    lossy = {0x00282110: ("CS", b"01")}
    dates = {0x00080020: ("DA", b"20240105"), 0x00100030: ("DA", b"19580105")}
    content = data_set({**UIDS, AGE: ("AS", b"010Y"), **dates, **lossy})
    for name in ("one.dcm", "two.dcm"):
        (deep / name).write_bytes(dicom_file(content, EXPLICIT))
    lines = run("check-header", tmp_path / "archive")
    assert max(map(cell_len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert str(tmp_path) not in text
    assert "\N{HORIZONTAL ELLIPSIS}" in lines[1]
    assert lines[1].split()[0].endswith("/one.dcm")
    assert "CONFLICT_HEADER" in text
    assert "proposed PatientAge = 066Y, from" in text
    assert "E2 " in text
    assert "LossyImageCompression" not in text
    assert "I4 in 2 of 2: The image was compressed lossily" in text
    assert lines[-1] == "2 files, 2 to be looked at, 0 unreadable"


def test_a_bundle_is_a_screen(run: Run) -> None:
    lines = run("model", "show")
    assert len(lines) < 58  # nineteen of them figures and what thresholds answer
    assert max(map(cell_len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for word in ("intended use", "not for", "trained on", "age MAE", "Not a medical device"):
        assert word in text
    assert json.loads("\n".join(run("model", "show", "--json")))["name"] == "chest-age-sex"


@pytest.mark.parametrize(
    ("name", "figure"), [("ct-mr-region", "region accuracy"), ("chest-findings", "mean AUC, ")]
)
def test_a_bundle_says_first_how_often_it_is_right(run: Run, name: str, figure: str) -> None:
    lines = [line.rstrip() for line in run("model", "show", name)]
    assert max(map(cell_len, lines)) <= 80
    table = lines[lines.index("Figures of whole data sets") + 2 : -1]
    assert table
    assert all(figure in line for line in table if line.split()[-1].isdecimal())


def test_the_list_of_bundles_ends_with_their_folders(run: Run) -> None:
    lines = run("model", "list")
    assert max(map(cell_len, lines)) <= 80
    for name in ("chest-age-sex", "chest-findings", "ct-mr-region"):
        (line,) = [line for line in lines if line.split()[0] == name]
        assert line.rstrip().endswith(f"/{name}")


@pytest.mark.parametrize("width", [4, 10, 30])
def test_paths_are_cut_at_the_left(width: int) -> None:
    cut = cut_left("archive/\u6771\u4eac/image-1.dcm", width)
    assert cell_len(cut) <= width
    assert "archive/\u6771\u4eac/image-1.dcm".endswith(cut.lstrip("\N{HORIZONTAL ELLIPSIS}"))
    assert cell_len(cut_right("\u6771\u4eac image", width)) <= width


def test_a_path_is_told_as_its_argument_needs_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.dcm").touch()
    a, b = tmp_path / "a", tmp_path / "b"
    assert shown_path(str(a / "1.dcm"), [a]) == "1.dcm"
    assert shown_path(str(b / "1.dcm"), [a, b]) == "b/1.dcm"
    assert shown_path(str(a / "1.dcm"), [a / "1.dcm"]) == str(a / "1.dcm")


def test_the_day_of_the_study_stands_as_people_write_it() -> None:
    from dicom_ai_node.cli.verdict import iso

    assert iso("20240105") == date(2024, 1, 5).isoformat()
    assert (iso(""), iso("2024.1.5")) == ("", "2024.1.5")
