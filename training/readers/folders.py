"""Any folder of DICOM files, read by the rules that the node goes by, and any folder of pictures.

Patients are hidden behind a hash of PatientID; without one, the images of a study are a patient's
(the same patient in two studies then counts as two). The view is ViewPosition, else the meaning of
the first ViewCodeSequence item; the device is Manufacturer and ManufacturerModelName. Files that
are not DICOM and images that the node would refuse by their header (CT, localisers, FOR PROCESSING)
are counted and left out.

Of pictures (PNG, JPEG, WEBP, TIFF) nothing is known but where they lie. They are meant for what is
no chest radiograph: ``others`` of a run on an archive. The data set of an image is the name of its
folder, so that a report tells knees from hands.
"""

from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset

from dicom_ai_node import pixels
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.errors import PixelsRefused, UnreadableInstance
from dicom_ai_node.pixels.lenient import items, text
from dicom_ai_node.rules import TextHeader
from training.data.index import PICTURES, IndexRow
from training.data.labels import labels_of_header
from training.readers.layout import Tally, files_below, pseudonym, view_of

UNREADABLE = "image: not a DICOM file"
NO_PICTURE = "image: not a picture"
DEVICE = ("Manufacturer", "ManufacturerModelName")


def read_dicom(root: Path, tally: Tally) -> Iterator[IndexRow]:
    """Rows of the radiographs among the files below ``root``."""
    for image in files_below(root):
        row = row_of(root, image, "dicom", tally)
        if row is not None:
            yield row


def row_of(root: Path, image: Path, dataset: str, tally: Tally) -> IndexRow | None:
    """The row of one DICOM file, None when it is no radiograph."""
    try:
        header = pixels.read_header(root / image)
        pixels.refuse_unfit(header)
    except UnreadableInstance:
        tally[UNREADABLE] += 1
        return None
    except PixelsRefused as error:
        tally[f"image: {error.reason.text}"] += 1
        return None
    labels = labels_of_header(TextHeader.from_dataset(header))
    tally.update(labels.doubts)
    hidden = _patient(header)
    return IndexRow(
        image=image.as_posix(),
        dataset=dataset,
        patient=f"{dataset}_{hidden}" if hidden else "",
        age=labels.age,
        sex=labels.sex,
        view=_view(header),
        device=" ".join(filter(None, (text(header, keyword) for keyword in DEVICE))),
    )


def _patient(header: Dataset) -> str:
    for keyword in ("PatientID", "StudyInstanceUID"):
        stated = text_of(header, keyword)
        if stated:
            return pseudonym(stated)
    return ""


def _view(header: Dataset) -> str:
    position = text(header, "ViewPosition")
    codes = items(header, "ViewCodeSequence")
    return view_of(position or (text(codes[0], "CodeMeaning") if codes else ""))


def read_pictures(root: Path, tally: Tally) -> Iterator[IndexRow]:
    """Rows of the pictures below ``root``."""
    for path in files_below(root):
        if path.suffix.lower() in PICTURES:
            yield IndexRow(image=path.as_posix(), dataset=(root / path).resolve().parent.name)
        else:
            tally[NO_PICTURE] += 1
