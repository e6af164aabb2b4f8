"""The studies that the demo's PACS sends, each a case that the node must tell apart."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from dicom_ai_node import pixels
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph, section, uid
from dicom_ai_node.demo.sections import SERIES
from dicom_ai_node.errors import PixelsRefused

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}


@dataclass(frozen=True, slots=True)
class DemoStudy:
    """One study: a title for the table, and its instances."""

    title: str
    datasets: tuple[Dataset, ...]

    @property
    def uid(self) -> str:
        """StudyInstanceUID."""
        return str(self.datasets[0].StudyInstanceUID)


def synthetic() -> list[DemoStudy]:
    """Return the demo's own studies; the images are drawn from a statistical model."""
    woman, man = phantom.chest(62.0, "F", seed=1), phantom.chest(45.0, "M", seed=2)
    lateral, hand = phantom.lateral(seed=1), phantom.hand(seed=2)
    return [
        _one("header complete", man, "complete", PatientAge="045Y", PatientSex="M",
             PatientBirthDate="19800601"),
        _one("age missing", woman, "age-missing", PatientSex="F"),
        _one("sex missing", man, "sex-missing", PatientAge="045Y", PatientBirthDate="19800601"),
        _one("age is 000Y", woman, "age-000Y", PatientAge="000Y", PatientSex="F"),
        _one("age is 999Y", man, "age-999Y", PatientAge="999Y", PatientSex="M"),
        _one("age against birth date", woman, "birth-date", PatientAge="026Y", PatientSex="F",
             PatientBirthDate="19630710"),
        _one("sex recorded as O", man, "sex-o", PatientAge="045Y", PatientSex="O"),
        _one("lateral view", lateral, "lateral", PatientSex="M", ViewPosition="LL"),
        _one("hand, labelled chest", hand, "hand", PatientSex="F"),
        _one("compressed (JPEG 2000)", woman, "compressed", compressed=True, PatientSex="F"),
        _series("CT, body part missing", "ct-missing", BodyPartExamined=None),
        _series("CT of the trunk, labelled head", "ct-head", BodyPartExamined="HEAD"),
        DemoStudy(
            "two images",
            tuple(
                radiograph(phantom.chest(55.0, "F", seed=seed), study="two", number=number)
                for number, seed in ((1, 3), (2, 4))
            ),
        ),
    ]  # fmt: skip


def from_folder(folder: Path) -> list[DemoStudy]:
    """Return one study per DICOM study and per picture found below ``folder``."""
    studies: dict[str, list[Dataset]] = {}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        dataset = _picture(path) if path.suffix.lower() in PICTURES else _dicom(path)
        if dataset is not None:
            studies.setdefault(str(dataset.StudyInstanceUID), []).append(dataset)
    titles = {key: str(images[0].get("StudyDescription", "")) for key, images in studies.items()}
    return [DemoStudy(titles[key] or key[-12:], tuple(one)) for key, one in studies.items()]


def _one(title: str, image: NDArray[np.uint16], study: str, **values: Any) -> DemoStudy:
    return DemoStudy(title, (radiograph(image, study=study, **values),))


def _series(title: str, study: str, **values: Any) -> DemoStudy:
    """A CT from the apices of the lungs to the iliac crests."""
    planes = [
        draw(number / (count - 1), number) for draw, count in SERIES for number in range(count)
    ]
    known = {"PatientAge": "058Y", "PatientSex": "F"} | values
    return DemoStudy(
        title,
        tuple(section(plane, study=study, number=n + 1, **known) for n, plane in enumerate(planes)),
    )


def _dicom(path: Path) -> Dataset | None:
    """Read a file; UIDs that no PACS could file it by are made up, for the demo's sake."""
    try:
        dataset = dcmread(path)
        dataset.SOPClassUID  # noqa: B018
    except (InvalidDicomError, AttributeError):
        return None
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if not UID(str(dataset.get(keyword) or "")).is_valid:
            setattr(dataset, keyword, uid(keyword, path))
    return dataset


def _picture(path: Path) -> Dataset | None:
    try:
        grey = np.asarray(pixels.grey_from_picture(path), dtype=np.float64)
    except PixelsRefused:
        return None
    span = float(np.ptp(grey)) or 1.0
    scaled = np.round((grey - grey.min()) / span * 4095).astype(np.uint16)
    return radiograph(scaled, study=path.name, StudyDescription=path.name[:64])
