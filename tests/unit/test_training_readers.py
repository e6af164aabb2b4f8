"""Each reader on a small tree of its layout."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from tests.builders.layouts import anonymised, dicom, picture, table
from tests.builders.training import run_training
from training import readers
from training.data.cache import tensor
from training.data.index import IndexRow, read_index
from training.data.tables import DataError
from training.readers.chexpert import FINDINGS
from training.readers.layout import view_of


def read(layout: str, root: Path) -> tuple[dict[str, IndexRow], Counter[str]]:
    """Rows by the name of their image, and what was dropped; every image must be there."""
    tally: Counter[str] = Counter()
    rows = list(readers.read(layout, root, tally))
    assert all((root / row.image).is_file() for row in rows)
    assert len({row.image for row in rows}) == len(rows)
    return {Path(row.image).stem: row for row in rows}, tally


NIH = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age"]
NIH += ["Patient Gender", "View Position", "OriginalImage[Width", "Height]"]


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    for number, name in ((1, "00000001_000"), (1, "00000002_000"), (12, "00028173_000")):
        picture(tmp_path / f"images_{number:03d}/images/{name}.png", seed=number)
    table(
        tmp_path / "Data_Entry_2017_v2020.csv",
        NIH,
        ["00000001_000.png", "Cardiomegaly|Effusion", 0, 1, 58, "M", "PA", 2682, 2749],
        ["00000002_000.png", "No Finding", 0, 2, "081Y", "F", "AP", 2500, 2048],
        ["00028173_000.png", "Mass", 0, 28173, 412, "M", "PA", 2500, 2048],
        ["00030805_000.png", "Mass", 0, 30805, 27, "M", "PA", 2048, 2500],
    )
    (tmp_path / "test_list.txt").write_text("00000002_000.png\n")
    (tmp_path / "train_val_list.txt").write_text("00000001_000.png\n")
    return tmp_path


def test_nih(nih: Path) -> None:
    rows, tally = read("nih", nih)
    first = rows["00000001_000"]
    assert first.image == "images_001/images/00000001_000.png"
    assert (first.patient, first.age, first.sex, first.view) == ("nih_1", 58, "M", "PA")
    assert first.findings == ("Cardiomegaly", "Effusion")
    assert (first.split, rows["00000002_000"].split) == ("train", "test")
    assert rows["00000002_000"].age == 81  # the first release's form
    assert rows["00028173_000"].age is None  # 412 years
    assert rows["00028173_000"].sex == "M"
    assert tally["image: listed, but no such file"] == 1
    assert sum(n for reason, n in tally.items() if reason.startswith("age: C2")) == 1


CHEXPERT = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS]


def test_chexpert(tmp_path: Path) -> None:
    def line(name: str, sex: str, age: int, view: str, ap: str, **found: str) -> list[object]:
        outer = "CheXpert-v1.0-small"
        values = [found.get(f.replace(" ", "_"), "") for f in FINDINGS]
        return [f"{outer}/{name}", sex, age, view, ap, *values]

    names = ["train/patient00001/study1/view1_frontal.jpg"]
    names += ["train/patient00001/study1/view2_lateral.jpg"]
    names += ["train/patient00002/study2/view1_frontal.jpg"]
    names += ["valid/patient64541/study1/view1_frontal.jpg"]
    for name in names:
        picture(tmp_path / name)
    table(
        tmp_path / "train.csv",
        CHEXPERT,
        line(names[0], "Female", 68, "Frontal", "AP", Edema="-1.0", Fracture="1.0", Pneumonia="0"),
        line(names[1], "Female", 68, "Lateral", ""),
        line(names[2], "Unknown", 0, "Frontal", "LL"),
    )
    table(
        tmp_path / "valid.csv",
        CHEXPERT,
        line(names[3], "Male", 90, "Frontal", "PA", No_Finding="1"),
    )
    tally: Counter[str] = Counter()
    rows = {row.image: row for row in readers.read("chexpert", tmp_path, tally)}
    assert list(rows) == names
    first, lateral, unknown, old = rows.values()
    assert (first.patient, first.age, first.sex, first.view) == ("chexpert_00001", 68, "F", "AP")
    assert first.findings == ("Edema?", "Fracture")
    assert (lateral.view, lateral.patient) == ("LATERAL", first.patient)
    assert (unknown.age, unknown.sex, unknown.view) == (None, "", "")
    assert old.age is None  # 90 is where the data set puts the oldest together
    assert (old.split, old.findings, old.view) == ("valid", ("No Finding",), "PA")
    assert {reason[:8] for reason in tally} == {"age: C1 ", "age: E8 ", "sex: A3 "}


def test_chexpert_beside_its_folder(tmp_path: Path) -> None:
    name = "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg"
    picture(tmp_path / name)
    row = [name, "Male", 50, "Frontal", "PA", *([""] * 14)]
    table(tmp_path / "train.csv", CHEXPERT, row)
    assert [row.image for row in readers.read("chexpert", tmp_path)] == [name]


def test_mimic(tmp_path: Path) -> None:
    def image(subject: str, study: int, name: str) -> None:
        picture(tmp_path / f"files/p{subject[:2]}/p{subject}/s{study}/{name}.jpg")

    image("10000032", 50414267, "one")
    image("10000032", 50414267, "two")
    image("10000084", 50771383, "old")
    image("10000117", 50000000, "nobody")
    header = ["dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription"]
    header += ["ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime"]
    chest = "CHEST (PA AND LAT)"
    table(
        tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz",
        header,
        ["one", 10000032, 50414267, chest, "PA", 3056, 2544, 21830506, "213014.531"],
        ["two", 10000032, 50414267, chest, "LL", 3056, 2544, 21830506, "213014.531"],
        ["old", 10000084, 50771383, chest, "AP", 3056, 2544, 21550101, "010101.000"],
        ["nobody", 10000117, 50000000, chest, "", 3056, 2544, 21550101, "010101.000"],
    )
    table(
        tmp_path / "patients.csv.gz",
        ["subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"],
        [10000032, "F", 52, 2180, "2014 - 2016", ""],
        [10000084, "M", 91, 2160, "2017 - 2019", ""],
    )
    table(
        tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz",
        ["subject_id", "study_id", *FINDINGS],
        [10000032, 50414267, "1.0", *([""] * 13)],
    )
    table(
        tmp_path / "mimic-cxr-2.0.0-split.csv.gz",
        ["dicom_id", "study_id", "subject_id", "split"],
        ["one", 50414267, 10000032, "validate"],
    )
    rows, tally = read("mimic", tmp_path)
    one = rows["one"]
    assert (one.age, one.sex, one.view) == (55, "F", "PA")  # 52 in 2180, so 55 in 2183
    assert (one.patient, one.split, one.findings) == ("mimic_10000032", "validate", ("No Finding",))
    assert (rows["two"].view, rows["two"].split) == ("LATERAL", "")
    assert rows["old"].age is None  # 91 stands for all over 89, also five years earlier
    assert rows["old"].sex == "M"
    assert (rows["nobody"].age, rows["nobody"].sex, rows["nobody"].view) == (None, "", "")
    assert sum(n for reason, n in tally.items() if reason.startswith("age: E8")) == 1


def test_padchest(tmp_path: Path) -> None:
    header = ["", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID"]
    header += ["PatientBirth", "PatientSex_DICOM", "ViewPosition_DICOM", "Projection", "Labels"]
    picture(tmp_path / "0/one.png")
    picture(tmp_path / "54/two.png")
    picture(tmp_path / "54/three.png")
    two = [1, "two.png", 54, 20101005, "s2", "22", "", "M", "POSTEROANTERIOR", "", "nan"]
    three = [2, "three.png", 54, 20101005, "s3", "23", 2009.0, "F", "", "COSTAL", "[]"]
    table(
        tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
        header,
        [
            0,
            "one.png",
            0,
            20140915,
            "s1",
            "21",
            1930.0,
            "F",
            "X",
            "AP_horizontal",
            "['normal', 'nodule']",
        ],
        two,
        three,
        [3, "gone.png", 3, 20140915, "s1", "24", 1930.0, "F", "X", "PA", "['nodule']"],
    )
    rows, tally = read("padchest", tmp_path)
    one = rows["one"]
    assert (one.image, one.patient) == ("0/one.png", "padchest_21")
    assert (one.age, one.sex, one.view) == (84, "F", "AP")
    assert one.findings == ("No Finding", "nodule")
    assert (rows["two"].age, rows["two"].view, rows["two"].findings) == (None, "PA", ())
    assert (rows["three"].age, rows["three"].view) == (None, "OTHER")  # an infant, year only
    assert tally["image: listed, but no such file"] == 1


def test_padchest_labels_that_are_no_list(tmp_path: Path) -> None:
    picture(tmp_path / "one.png")
    header = ["ImageID", "PatientID", "PatientBirth", "StudyDate_DICOM", "PatientSex_DICOM"]
    row = ["one.png", "21", 1930, 20140915, "F", "PA", "nodule here"]
    name = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    table(tmp_path / name, [*header, "Projection", "Labels"], row)
    with pytest.raises(DataError, match=r"\.csv:2: Labels: expected a list of names"):
        list(readers.read("padchest", tmp_path))


@pytest.mark.parametrize("decubitus", ["LLD", "RLD", "AP LLD", "AP RLD", "PA LLD", "pa rld"])
def test_a_decubitus_view_is_not_known(decubitus: str) -> None:
    """The patient lies on a side and the beam is frontal: neither a lateral nor upright."""
    assert view_of(decubitus) == ""


@pytest.mark.parametrize(
    ("stated", "view"), [("LL", "LATERAL"), ("RL", "LATERAL"), ("LAO", "OTHER")]
)
def test_other_views_are(stated: str, view: str) -> None:
    assert view_of(stated) == view


def test_vindr(tmp_path: Path) -> None:
    anonymised(tmp_path / "train/one.dicom", PatientAge="061Y", PatientSex="M")
    anonymised(tmp_path / "train/zero.dicom", PatientAge="000Y", PatientSex="O", PatientID="7")
    dicom(tmp_path / "test/two.dicom", PatientAge="238Y", PatientSex="F", ViewPosition="AP")
    (tmp_path / "train/notes.txt").write_text("no image")
    table(
        tmp_path / "annotations/image_labels_train.csv",
        ["image_id", "rad_id", "Cardiomegaly", "Nodule/Mass", "No finding"],
        ["one", "R1", 1, 0, 0],
        ["one", "R2", 1, 0, 0],
        ["one", "R3", 0, 1, 0],
    )
    table(tmp_path / "annotations/image_labels_test.csv", ["image_id", "No finding"], ["two", 1])
    rows, tally = read("vindr", tmp_path)
    assert (rows["one"].age, rows["one"].sex, rows["one"].view) == (61, "M", "PA")
    assert rows["one"].patient == ""
    assert tensor(tmp_path / rows["one"].image, 8).any()
    assert rows["one"].findings == ("Cardiomegaly", "Nodule/Mass?")  # two of three, one of three
    assert (rows["two"].split, rows["two"].view) == ("test", "AP")
    assert rows["two"].findings == ("No Finding",)
    assert rows["two"].age is None
    assert (rows["zero"].age, rows["zero"].sex, rows["zero"].findings) == (None, "", ())
    assert {reason[:7] for reason in tally} == {"age: C1", "age: C2", "sex: F6"}


def test_spr(tmp_path: Path) -> None:
    for number in (0, 1, 2):
        picture(tmp_path / f"kaggle/kaggle/train/{number:06d}.png", seed=number)
    picture(tmp_path / "kaggle/kaggle/test/000000.png", seed=9)
    table(tmp_path / "train_age.csv", ["imageId", "age"], [0, 89.0], [1, 25.0], [3, 40.0])
    table(
        tmp_path / "train_gender.csv", ["imageId", "gender"], ["000000", 1], ["000001", 0], [2, 0]
    )
    rows, tally = read("spr", tmp_path)
    assert set(rows) == {"000000", "000001", "000002"}
    assert rows["000000"].image == "kaggle/kaggle/train/000000.png"
    assert (rows["000000"].age, rows["000000"].sex) == (89, "M")
    assert (rows["000001"].age, rows["000001"].sex) == (25, "F")
    assert (rows["000002"].age, rows["000002"].sex) == (None, "F")
    assert rows["000000"].patient == ""
    assert tally["image: listed, but no such file"] == 1
    table(tmp_path / "train_gender.csv", ["imageId", "gender"], [0, 2])
    with pytest.raises(DataError, match=r"gender\.csv:2: gender: expected 0 \(female\) or 1"):
        read("spr", tmp_path)


def test_rsna(tmp_path: Path) -> None:
    dirty: dict[str, Any] = {"Modality": "CR", "PatientAge": "64", "ViewPosition": "AP"}
    dicom(tmp_path / "stage_2_train_images/aa.dcm", PatientSex="F", PatientID="aa", **dirty)
    dicom(tmp_path / "stage_2_train_images/bb.dcm", PatientSex="M", PatientAge="155")
    dicom(tmp_path / "stage_2_test_images/cc.dcm", PatientSex="M", PatientAge="7")
    table(
        tmp_path / "stage_2_detailed_class_info.csv",
        ["patientId", "class"],
        ["aa", "Lung Opacity"],
        ["aa", "Lung Opacity"],
        ["bb", "Normal"],
    )
    rows, _ = read("rsna", tmp_path)
    assert (rows["aa"].age, rows["aa"].sex, rows["aa"].view) == (64, "F", "AP")
    assert (rows["aa"].patient, rows["aa"].findings) == ("rsna_aa", ("Lung Opacity",))
    assert (rows["bb"].age, rows["bb"].findings) == (None, ("No Finding",))
    assert (rows["cc"].split, rows["cc"].findings, rows["cc"].age) == ("test", (), 7)


def test_a_folder_of_dicom_files(tmp_path: Path) -> None:
    study: dict[str, Any] = {"PatientID": "4711", "PatientSex": "F", "StudyDate": "20230610"}
    maker: dict[str, Any] = {"Manufacturer": "ACME", "ManufacturerModelName": "One"}
    dicom(tmp_path / "a/1", PatientAge="063Y", ViewPosition="PA", **study, **maker)
    dicom(tmp_path / "a/2", PatientBirthDate="19600415", ViewPosition="LL", **study)
    dicom(tmp_path / "b/3", PatientAge="063Y", PatientBirthDate="19800415", **study)
    dicom(tmp_path / "b/4", PatientAge="041Y", PatientSex="M", StudyInstanceUID="1.2.3")
    dicom(tmp_path / "b/5", PatientAge="041Y", PatientSex="M", StudyInstanceUID="1.2.3")
    dicom(tmp_path / "b/ct", SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT")
    (tmp_path / "readme.txt").write_text("not DICOM")
    rows, tally = read("dicom", tmp_path)
    assert set(rows) == {"1", "2", "3", "4", "5"}
    assert (rows["1"].age, rows["1"].sex, rows["1"].view) == (63, "F", "PA")
    assert rows["1"].device == "ACME ONE"
    assert (rows["2"].age, rows["2"].view) == (63, "LATERAL")
    assert rows["3"].age is None  # the dates say 43
    assert rows["1"].patient == rows["2"].patient == rows["3"].patient
    assert rows["1"].patient != rows["4"].patient == rows["5"].patient
    assert not any("4711" in repr(row) for row in rows.values())
    assert tally["image: not a DICOM file"] == 1
    reason = "image: The object is not a projection radiograph of the body: SOP class "
    assert tally[f"{reason}CT Image Storage"] == 1


def test_the_view_from_its_code(tmp_path: Path) -> None:
    code = Dataset()
    code.CodeMeaning = "postero-anterior"
    dicom(tmp_path / "one", ViewCodeSequence=[code], PatientAge="050Y", PatientSex="F")
    rows, _ = read("dicom", tmp_path)
    assert rows["one"].view == "PA"


def test_shared(tmp_path: Path) -> None:
    picture(tmp_path / "cxr/nih/a.webp")
    picture(tmp_path / "cxr/hannover/b.webp")
    header = ["path", "source", "patient_id", "age_years", "sex", "view", "finding", "split"]
    header += ["original_width", "original_height", "licence"]
    table(
        tmp_path / "cxr/index.csv",
        header,
        ["cxr/nih/a.webp", "nih", "nih_1", 57, "M", "PA", "A|B", "val", 9, 9, "free, so"],
        ["cxr/hannover/b.webp", "hannover", "h_1", "", "F", "unknown", "", "aux", 9, 9, "CC BY"],
    )
    rows, _ = read("shared", tmp_path)
    expected = IndexRow(
        "cxr/nih/a.webp", "nih", "nih_1", 57, "M", "PA", ("A", "B"), "", "free, so", "val"
    )
    assert rows["a"] == expected
    assert (rows["b"].split, rows["b"].age, rows["b"].view) == ("hannover", None, "")


def test_the_real_shared_images(shared_data: Path) -> None:
    rows = list(readers.read("shared", shared_data))
    assert len({row.image for row in rows}) == len(rows) > 10_000
    assert {row.split for row in rows} >= {"train", "val", "val_128", "external_dev", "hannover"}
    assert all(row.age is not None for row in rows if row.split in ("train_128", "val"))


def test_the_real_dirty_headers(shared_data: Path) -> None:
    rows = list(readers.read("dicom", shared_data / "dicom/chest"))
    assert len(rows) > 90
    assert sum(row.age is not None for row in rows) > 90  # '64' without its unit
    assert sum(row.sex != "" for row in rows) > 90


def test_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "hand/1.png")
    picture(tmp_path / "knee/1.webp")
    (tmp_path / "knee/notes.txt").write_text("x")
    tally: Counter[str] = Counter()
    rows = list(readers.read("pictures", tmp_path, tally))
    assert rows == [IndexRow("hand/1.png", "hand"), IndexRow("knee/1.webp", "knee")]
    assert tally == {"image: not a picture": 1}


@pytest.mark.parametrize("layout", sorted(readers.READERS))
def test_a_folder_that_is_something_else(layout: str, tmp_path: Path) -> None:
    if layout in ("dicom", "pictures"):
        assert list(readers.read(layout, tmp_path)) == []
        return
    with pytest.raises(DataError, match="expected"):
        list(readers.read(layout, tmp_path))


def test_unknown_layouts_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nhi: expected a layout, one of chexpert"):
        readers.read("nhi", tmp_path)
    with pytest.raises(DataError, match="expected the folder of a data set"):
        readers.read("nih", tmp_path / "absent")


def test_command(nih: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = nih / "made/index.csv"
    run_training("index", "nih", nih, "--out", out)
    rows = read_index(out)
    assert [(out.parent / row.image).is_file() for row in rows] == [True] * 3
    printed = capsys.readouterr().out
    assert "age: C2" in printed
    assert "no such file" in printed
    inside = {replace(row, image=row.image.removeprefix("../")) for row in rows}
    assert inside == set(readers.read("nih", nih))
