"""What the comparison of formats puts in: images of nobody, and headers with every kind of fault.

The pixels are those that the demo sends, so that a node answers them; nothing else of the package
is used, so that the same inputs go into any two versions of it.
"""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, FileMetaDataset, config, dcmread
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from safetensors.numpy import load_file, save_file

Grey = NDArray[np.uint16]
ARCHIVE_STUDIES = 24
_STATIONS = (("ROOM1", "Alpha Imaging", "A-100", "3.1"), ("ROOM2", "Beta Systems", "B-7", "2024.1"))


def uid(*parts: object) -> str:
    """Return a UID that depends on ``parts`` alone (PS3.5 B.2)."""
    digest = hashlib.sha256("/".join(map(str, ("formats", *parts))).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def demo_pixels(spool: Path) -> list[Grey]:
    """Return the native images that the demo's node received, in the order of their UIDs."""
    found = {}
    for path in spool.glob("instances/*/*.dcm"):
        dataset = dcmread(path)
        if dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian:
            found[str(dataset.SOPInstanceUID)] = (str(dataset.PatientID), dataset.pixel_array)
    return [pixels for _, (_, pixels) in sorted(found.items(), key=lambda item: item[1][0])]


def radiograph(pixels: Grey, study: str, number: int = 1, **values: Any) -> Dataset:
    """Return a CR image with a sound header but for ``values``; None leaves an attribute out."""
    station, manufacturer, model, software = _STATIONS[0]
    header: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": uid(study, number),
        "StudyDate": "20260314",
        "AcquisitionDate": "20260314",
        "StudyTime": "101500",
        "AccessionNumber": f"A{study}"[:16],
        "Modality": "CR",
        "Manufacturer": manufacturer,
        "ReferringPhysicianName": "",
        "StationName": station,
        "StudyDescription": "Chest PA",
        "ManufacturerModelName": model,
        "PatientName": f"Format^{study.title()}",
        "PatientID": f"F-{study}",
        "PatientBirthDate": "19660310",
        "PatientSex": "F",
        "PatientAge": "060Y",
        "BodyPartExamined": "CHEST",
        "SoftwareVersions": software,
        "ViewPosition": "PA",
        "StudyInstanceUID": uid(study),
        "SeriesInstanceUID": uid(study, "series"),
        "StudyID": "1",
        "SeriesNumber": 1,
        "InstanceNumber": number,
        "PatientOrientation": "",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
    }
    dataset = Dataset()
    for keyword, value in (header | values).items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


FAULTS: dict[str, dict[str, Any]] = {
    "sound": {},
    "agemissing": {"PatientAge": None},
    "sexmissing": {"PatientSex": ""},
    "bothmissing": {"PatientAge": "", "PatientSex": None, "PatientBirthDate": ""},
    "nounit": {"PatientAge": "060"},
    "male": {"PatientSex": "MALE"},
    "lower": {"PatientSex": "f"},
    "other": {"PatientSex": "O", "PatientAge": None},
    "zero": {"PatientAge": "000Y"},
    "ninehundred": {"PatientAge": "999Y", "PatientBirthDate": ""},
    "wrongyears": {"PatientAge": "026Y"},
    "months": {"PatientAge": "060M"},
    "transposed": {"PatientAge": "006Y", "PatientBirthDate": "19660310"},
    "placeholder": {"PatientBirthDate": "19000101", "PatientAge": None},
    "future": {"StudyDate": "20990101", "AcquisitionDate": "20990101"},
    "swapped": {"PatientBirthDate": "20260310"},
    "badate": {"PatientBirthDate": "1966.03.10", "PatientAge": None},
    "pregnant": {"PatientSex": "M", "PregnancyStatus": 3, "StudyDescription": "Pregnancy"},
    "animal": {"PatientSpeciesDescription": "Canine", "ResponsiblePerson": "Owner^A"},
    "tall": {"PatientSize": "175", "PatientWeight": "4"},
    "umlaut": {"PatientID": "Ä123", "PatientName": "Müller^Änne=東^京", "PatientAge": None},
    "japanese": {"PatientID": "東1", "PatientName": "Yamada^Tarou=山田^太郎", "PatientSex": ""},
    "latin": {"SpecificCharacterSet": "ISO_IR 100", "PatientID": "Ö123", "PatientAge": ""},
    "nocharset": {"SpecificCharacterSet": None, "PatientName": "Plain^Name"},
    "severalsexes": {"PatientSex": ["F", "M"]},
    "identified": {"PatientIdentityRemoved": "YES", "PatientAge": "089Y", "PatientBirthDate": ""},
    "burned": {"BurnedInAnnotation": "YES", "LossyImageCompression": "01"},
    "window": {"WindowCenter": "2048", "WindowWidth": "0", "PresentationLUTShape": "INVERSE"},
    "withpriors": {"PatientID": "F-sound", "PatientAge": None, "PatientBirthDate": ""},
    "sexchanged": {"PatientID": "F-sound", "PatientSex": "M"},
    "injection": {"StationName": "=1+2", "PatientName": "Esc\x1b[31m^A", "PatientAge": None},
    "lateral": {"ViewPosition": "LL", "PatientAge": None},
    "refuse": {"PatientAge": None, "PatientSex": ""},
}
"""Headers of the folder that is checked; those of ``SENT`` also go through a node."""

SENT = (
    *("sound", "agemissing", "bothmissing", "nounit", "other", "umlaut", "withpriors"),
    *("sexchanged", "lateral", "refuse"),
)


ODD = ("cut", "ct", "tiny", "flat", "palette", "turned")
"""Studies of the folder of what is no radiograph."""


def headers(pixels: list[Grey], folder: Path) -> None:
    """Write one file for each kind of fault, small where the network need not see it."""
    for name, values in FAULTS.items():
        image = pixels[2] if name == "lateral" else pixels[0]
        write(radiograph(image, name, **values), folder / f"{name}.dcm")


def odd_files(pixels: Grey, folder: Path) -> None:
    """Write what is no radiograph: pictures, texts, damaged files, other classes."""
    folder.mkdir(parents=True)
    grey = (pixels >> 4).astype(np.uint8)
    Image.fromarray(grey).save(folder / "chest.png")
    Image.fromarray(grey).convert("RGB").save(folder / "chest.jpg", quality=90)
    (folder / "text.txt").write_text("no image")
    (folder / "empty").write_bytes(b"")
    whole = folder / "cut.dcm"
    write(radiograph(pixels, "cut"), whole)
    whole.write_bytes(whole.read_bytes()[:200_000])
    write(radiograph(pixels, "ct", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), folder / "ct.dcm")
    write(radiograph(pixels[:8, :8], "tiny"), folder / "tiny.dcm")
    flat = np.full_like(pixels, 100)
    write(radiograph(flat, "flat"), folder / "flat.dcm")
    wide = radiograph(pixels, "palette", PhotometricInterpretation="PALETTE COLOR")
    write(wide, folder / "palette.dcm")
    hand = radiograph(pixels[::-1, ::-1].copy(), "turned", BodyPartExamined="HAND")
    write(hand, folder / "turned.dcm")


def archive(pixels: list[Grey], folder: Path) -> None:
    """Write a small archive: two stations, patients with several studies, and faults in some."""
    female, male = pixels[0].astype(np.float32), pixels[1].astype(np.float32)
    for number in range(ARCHIVE_STUDIES):
        share = np.float32((number % 12) / 11)
        image = np.clip(female * share + male * (1 - share) + 8 * (number % 5), 0, 4095)
        person, station = number // 2, _STATIONS[number % 5 == 0]
        years = 40 + person
        values: dict[str, Any] = {
            "PatientID": f"P{person:04d}",
            "PatientName": f"Family{person:02d}^Given",
            "PatientSex": "F" if share > 0.5 else "M",
            "PatientAge": f"{years:03d}Y",
            "PatientBirthDate": f"{2026 - years}0101",
            "StudyDate": f"202603{1 + number % 28:02d}",
            "AcquisitionDate": f"202603{1 + number % 28:02d}",
            "StationName": station[0],
            "Manufacturer": station[1],
            "ManufacturerModelName": station[2],
            "SoftwareVersions": station[3],
        }
        if number % 9 == 4:
            values["PatientAge"] = "099Y"
        if number % 11 == 3:
            values |= {"PatientSex": "", "PatientAge": ""}
        if number % 13 == 5:
            values["PatientSex"] = "M" if values["PatientSex"] == "F" else "F"
        if number % 17 == 6:
            values["PatientAge"] = "020Y"
        dataset = radiograph(image.astype(np.uint16), f"archive{number:03d}", **values)
        write(dataset, folder / f"{number:03d}.dcm")
        if number % 10 == 7:
            second = radiograph(image.astype(np.uint16), f"archive{number:03d}", 2, **values)
            second.PatientBirthDate = "19500505"
            write(second, folder / f"{number:03d}-2.dcm")


def other_bundle(bundle: Path, folder: Path) -> None:
    """Write a bundle that answers like ``bundle`` and has another SHA-256, to be its shadow."""
    shutil.copytree(bundle, folder)
    weights, manifest = folder / "weights.safetensors", folder / "manifest.json"
    before = hashlib.sha256(weights.read_bytes()).hexdigest()
    save_file(load_file(weights), weights, {"note": "for the comparison of formats"})
    after = hashlib.sha256(weights.read_bytes()).hexdigest()
    text = manifest.read_text()
    if before not in text:
        raise ValueError(f"{manifest} does not name the weights' SHA-256")
    manifest.write_text(text.replace(before, after))


def small(pixels: Iterable[Grey]) -> list[Grey]:
    """Return the images at half their size: quick to read, and large enough for the network."""
    return [
        image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean((1, 3)).astype(np.uint16)
        for image in pixels
    ]


def write(dataset: Dataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    before = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    try:
        dataset.save_as(path, enforce_file_format=True)
    finally:
        config.settings.writing_validation_mode = before
