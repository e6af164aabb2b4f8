"""The shipped network as an audit asks it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
)

from dicom_ai_node.answers import Outcome
from dicom_ai_node.audit.analyst import Analyst
from dicom_ai_node.audit.campaign import AuditSpec, Depth
from dicom_ai_node.config import parse_config
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import STUDY_DATE, radiograph
from dicom_ai_node.types import AttributeStatus


def write(folder: Path, name: str, dataset: Dataset) -> Path:
    path = folder / name
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("depth", [Depth.ALL, Depth.FLAGGED])
def test_files_become_headers_and_a_result(tmp_path: Path, depth: Depth) -> None:
    spec = AuditSpec(source="node", depth=depth, today=STUDY_DATE)
    analyst = Analyst(parse_config({}), spec)
    chest = phantom.chest(60.0, "F", seed=1)
    sound: dict[str, Any] = {
        "PatientSex": "F",
        "PatientAge": "060Y",
        "PatientBirthDate": "19660101",
    }
    image = write(tmp_path, "image.dcm", radiograph(chest, study="one", **sound))
    other = radiograph(chest, study="one", number=2)
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
    document = write(tmp_path, "document.dcm", other)
    rubbish = tmp_path / "rubbish.dcm"
    rubbish.write_bytes(b"no DICOM")

    seen = analyst("1.2.3", [image, document, rubbish])
    assert [header.clean("PatientAge") for header in seen.headers] == ["060Y", ""]
    assert seen.unreadable == 1
    if depth is Depth.FLAGGED:
        assert seen.result is None  # the listing was suspicious, the header is sound
    else:
        assert seen.result is not None
        assert (seen.result.outcome, seen.result.check.attributes["PatientAge"].status) == (
            Outcome.ESTIMATED,
            AttributeStatus.CONSISTENT,
        )
        assert seen.result.study_uid == "1.2.3"

    missing = write(tmp_path, "missing.dcm", radiograph(chest, study="two"))
    seen = analyst("1.2.4", [missing])
    assert seen.result is not None
    assert seen.result.outcome is Outcome.ESTIMATED

    seen = analyst("1.2.5", [rubbish])
    assert (seen.headers, seen.unreadable, seen.result) == ((), 1, None)


def test_headers_of_what_the_network_never_sees_are_kept(tmp_path: Path) -> None:
    """An audit of mammograms with all images is one of their headers, and of whole ones."""
    spec = AuditSpec(source="node", depth=Depth.ALL, modalities=("MG",), today=STUDY_DATE)
    analyst = Analyst(parse_config({}), spec)
    files = []
    for number, age in enumerate(("060Y", "061Y")):
        image = radiograph(phantom.chest(60.0, "F", seed=1), study="one", number=number)
        image.Modality, image.PatientAge = "MG", age
        image.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        files.append(write(tmp_path, f"{number}.dcm", image))
    seen = analyst("1.2.3", files)
    assert [header.clean("PatientAge") for header in seen.headers] == ["060Y", "061Y"]
    assert (seen.unreadable, seen.result) == (0, None)


def test_pixels_that_an_audit_does_not_show_to_the_network(tmp_path: Path) -> None:
    spec = AuditSpec(source="node", depth=Depth.ALL, today=STUDY_DATE)
    analyst = Analyst(parse_config({"limits": {"pixels": 1_000_000}}), spec)
    ramp = np.tile(np.arange(1200, dtype=np.uint16), (1000, 1))
    large = write(tmp_path, "large.dcm", radiograph(ramp, study="large", compressed=True))
    private = write(tmp_path, "private.dcm", radiograph(ramp[:500], study="private"))
    content = private.read_bytes()
    # GE's name of a syntax with big endian pixels, as long as the one that it replaces.
    private.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0"))
    for path, code in ((large, "too_large"), (private, "unsupported_syntax")):
        seen = analyst("1.2.3", [path])
        assert seen.result is not None
        assert seen.result.reason is not None
        assert (seen.result.outcome, seen.result.reason.code) == (Outcome.REFUSED, code)
