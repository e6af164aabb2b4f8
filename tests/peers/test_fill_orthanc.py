"""Filled copies in a real archive: sent to Orthanc, read back, and what differs from the source."""

import time
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1

from dicom_ai_node.fill.apply import apply, copy_maker
from tests.builders.filling import AGE, GUESSED_SEX, ward
from tests.builders.orthanc import orthanc_in
from tests.builders.outbox import delivering
from tests.builders.waiting import wait_for
from tests.peers.test_deliver_peers import answers

pytestmark = pytest.mark.peers


@pytest.mark.parametrize(
    ("fill", "syntax", "sex"),
    [
        ("deterministic", JPEGLosslessSV1, ""),
        ("inferred", ExplicitVRLittleEndian, "F"),
        ("inferred", JPEGLosslessSV1, "F"),
        ("inferred", JPEG2000Lossless, "F"),
    ],
)
def test_orthanc_keeps_the_copy_as_it_was_made(
    tmp_path: Path, fill: str, syntax: UID, sex: str
) -> None:
    with (
        orthanc_in(tmp_path / "orthanc", DicomAet="PACS") as orthanc,
        ward(tmp_path, pacs={"port": orthanc.dicom_port, "fill": fill}) as box,
    ):
        wait_for(lambda: answers(box))
        uid = box.accepted_study("one", AGE, GUESSED_SEX, syntax=syntax)
        make = copy_maker(box.db, box.config.report)
        for _ in range(2):  # queued once
            apply(box.config, box.db, box.spool, uid, actor="roe", make=make, now=time.time())
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))
        (found,) = orthanc.instances()
        copy = dcmread(BytesIO(orthanc.http.get(f"/instances/{found}/file").content))
        original = dcmread(next(box.spool.instances.glob("*.dcm")))
        assert (copy.PatientAge, copy.PatientSex or "") == ("063Y", sex)
        assert copy.file_meta.TransferSyntaxUID == syntax
        assert copy.PixelData == original.PixelData
        assert copy.StudyInstanceUID == original.StudyInstanceUID
        assert copy.SOPInstanceUID == box.copies()[0].stem
        assert copy == dcmread(box.copies()[0])
