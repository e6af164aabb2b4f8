"""The Secondary Capture: readable, marked, compressed, and without the patient's name."""

from dataclasses import replace
from datetime import datetime
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from dicom_ai_node.answers import Answer, Reason, StudyResult
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.report.build import build_reports
from dicom_ai_node.report.canvas import COLUMNS, DIM, MOST_ROWS, wrapped
from dicom_ai_node.report.sheet import draw_sheet, finding_words
from dicom_ai_node.types import AttributeStatus, Finding, Severity
from tests.builders.answers import age, sex, with_part
from tests.builders.checks import header_check
from tests.builders.questions import question_samples
from tests.builders.reports import Sample, samples

SAMPLES = samples() | question_samples()
KINDS = sorted(SAMPLES)


def capture(sample: Sample) -> Dataset:
    return pydicom.dcmread(BytesIO(content(sample)))


def content(sample: Sample) -> bytes:
    reports = build_reports(
        sample.result,
        sample.sources,
        settings=ReportSettings(secondary_capture=True),
        rules_version="7",
        digest="d",
        created=datetime(2024, 3, 16, 8, 0),
    )
    return reports[1].files[0].content


class Drawn:
    """Every text that is drawn, and the box that it takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[tuple[str, tuple[float, float, float, float]]] = []
        original = ImageDraw.ImageDraw.text

        def text(draw: ImageDraw.ImageDraw, xy: tuple[float, float], words: str, fill: int,
                 font: ImageFont.FreeTypeFont, anchor: str = "la") -> None:  # fmt: skip
            box = draw.textbbox(xy, words, font=font, anchor=anchor)
            if words:
                self.texts.append((words, box))
            original(draw, xy, words, fill, font, anchor=anchor)

        monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)

    @property
    def words(self) -> str:
        return " ".join(words for words, _ in self.texts)

    def overlaps(self) -> list[tuple[str, str]]:
        found = []
        for number, (words, a) in enumerate(self.texts):
            for other, b in self.texts[number + 1 :]:
                if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]:
                    found.append((words, other))
        return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    return Drawn(monkeypatch)


def draw(result: StudyResult) -> np.ndarray:
    return draw_sheet(result, study_date="20240315")


def test_it_is_marked_and_names_its_images() -> None:
    sample = samples()["two_images"]
    ds = capture(sample)
    assert ds.BurnedInAnnotation == "YES"
    assert ds.BodyPartExamined == "CHEST"
    assert ds.PatientAge == "063Y"
    assert ds.StudyDescription == "Chest PA"
    assert "not a medical device" in ds.ImageComments
    named = [item.ReferencedSOPInstanceUID for item in ds.SourceImageSequence]
    assert sorted(named) == sorted(str(one.SOPInstanceUID) for one in sample.sources)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_compressed_without_loss(kind: str) -> None:
    sample = SAMPLES[kind]
    ds = capture(sample)
    assert ds.file_meta.TransferSyntaxUID == RLELossless
    assert np.array_equal(ds.pixel_array, draw(sample.result))
    assert len(content(sample)) < ds.Rows * ds.Columns / 5


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_says_what_it_is_and_not_whose(kind: str, drawn: Drawn) -> None:
    draw(SAMPLES[kind].result)
    assert "NOT A MEDICAL DEVICE" in drawn.words
    assert "not verified" in drawn.words
    assert "SAMPLE-1" not in drawn.words
    assert "Sample" not in drawn.words
    assert "wrong patient" not in drawn.words.lower()
    assert drawn.overlaps() == []


def test_the_scale_shows_the_interval_the_estimate_and_the_record(drawn: Drawn) -> None:
    page = draw(samples()["conflict"].result)
    assert {"image 63", "recorded 21 years"} <= {words for words, _ in drawn.texts}
    places = {words: (box[0] + box[2]) / 2 for words, box in drawn.texts}
    zero, hundred = places["0"], places["100"]

    def age(x: float) -> float:
        return 100 * (x - zero) / (hundred - zero)

    assert age(places["image 63"]) == pytest.approx(63.2, abs=1)
    assert age(places["recorded 21 years"]) == pytest.approx(21, abs=1)
    row = next(box[3] for words, box in drawn.texts if words == "image 63") + 16
    shaded = np.flatnonzero(page[int(row)] == DIM)
    assert age(shaded[0]) == pytest.approx(52, abs=1)
    assert age(shaded[-1]) == pytest.approx(74, abs=1)


def test_an_other_sex_is_not_contradicted(drawn: Drawn) -> None:
    draw(samples()["sex_other"].result)
    assert "No sex from the image: PatientSex is not assessed" in drawn.words
    assert "certainty" not in drawn.words


def test_without_an_estimate_the_reason_stands_there(drawn: Drawn) -> None:
    draw_sheet(samples()["abstained"].result, study_date="")
    assert "No age from the image: neither age nor sex is certain" in drawn.words
    assert "Study of unknown date" in drawn.words


def test_the_findings_are_words_and_not_codes() -> None:
    words = list(finding_words(samples()["conflict"].result.check))
    assert words[0].startswith("Warning: Inferred characteristics differ")
    assert not any("H1" in line for line in words)
    proposed = list(finding_words(samples()["header_only"].result.check))
    assert proposed[-1] == (
        "Proposed, not applied: PatientAge 063Y, from PatientBirthDate and StudyDate"
    )


LONG = "does not go with " + "PatientWeight-and-everything-else-" * 9 + " nor with the rest of it"


def extreme(**changes: Any) -> StudyResult:
    result, conflict = samples()["conflict"].result, AttributeStatus.CONFLICT_IMAGE
    as_sampled: dict[str, Any] = {
        "recorded": ("021Y", "M"),
        "years": 21.0,
        "birth_date_age": 21.2,
        "findings": result.check.findings,
    }
    return replace(result, check=header_check(conflict, conflict, **as_sampled | changes))


def said(**answers: Answer | Reason) -> StudyResult:
    result = extreme()
    return with_part(result, answers={**result.parts[0].answers, **answers})


@pytest.mark.parametrize(
    "result",
    [
        extreme(findings=tuple(Finding("X", Severity.ERROR, "age", LONG) for _ in range(6))),
        extreme(exempt=LONG),
        extreme(recorded=("\\\\".join(["066Y"] * 30), "Male or female " * 20), years=None),
        extreme(recorded=("150Y", "M"), years=150.0),
        extreme(recorded=("000D", "M"), years=0.0),
        extreme(recorded=("063Y", "F"), years=63.0),
        extreme(recorded=("100Y", "F"), years=100.0),
        said(age=age(1.0, 0.1, (0.0, 110.0))),
        said(age=age(108.0, 0.1, (104.0, 110.0))),
        said(sex=sex(0.0)),
        said(sex=sex(1.0)),
        said(age=Reason("x", LONG * 2), sex=Reason("x", LONG * 2)),
        replace(extreme(), study_uid="1" * 64),
        extreme(exempt="x " * 5000, recorded=("9" * 5000, "M" * 5000), years=None),
    ],
    ids=lambda _: "",
)
def test_long_texts_wrap_and_nothing_overlaps(result: StudyResult, drawn: Drawn) -> None:
    page = draw(result)
    assert page.shape[0] <= MOST_ROWS
    assert page.shape[0] % 2 == 0
    assert drawn.overlaps() == []
    for words, (left, top, right, bottom) in drawn.texts:
        assert left >= 0, words
        assert right <= COLUMNS, words
        assert top >= 0, words
        assert bottom <= page.shape[0], words
    assert "Not for diagnosis." in drawn.words


def test_a_long_page_counts_what_it_leaves_out(drawn: Drawn) -> None:
    many = tuple(Finding(f"X{at}", Severity.WARNING, "age", f"reason {at}") for at in range(300))
    page = draw(extreme(findings=many))
    assert page.shape[0] <= MOST_ROWS
    shown = sum("Reason" in words for words, _ in drawn.texts)
    assert f"[{300 - shown} more in the report]" in drawn.words
    assert "Not for diagnosis." in drawn.words


@pytest.mark.parametrize("words", ["", "a b", "x" * 400, "short " + "y" * 300 + " end"])
def test_wrapping_keeps_every_letter(words: str) -> None:
    lines = wrapped(words, 22, 400)
    assert "".join(lines).replace(" ", "") == words.replace(" ", "")
    font = ImageFont.load_default(22)
    assert all(font.getlength(line) <= 400 for line in lines)
