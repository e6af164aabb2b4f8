"""A compressed Secondary Capture over real associations: as it is, or native where it must be."""

from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.classes import SECONDARY_CAPTURE
from dicom_ai_node.report.build import build_reports
from tests.builders.outbox import Outbox, delivering, pacs_and_outbox, report_uid
from tests.builders.reports import samples
from tests.builders.waiting import wait_for


def queue_capture(outbox: Outbox) -> Dataset:
    """Queue the capture of a sample result; return it."""
    sample = samples()["conflict"]
    reports = build_reports(
        sample.result,
        sample.sources,
        settings=ReportSettings(secondary_capture=True),
        rules_version="7",
        digest="d",
        created=datetime(2024, 3, 16, 8, 0),
    )
    capture = dcmread(BytesIO(reports[1].files[0].content))
    study = outbox.queue(classes=(SECONDARY_CAPTURE,), kind="sc")
    capture.SOPInstanceUID = report_uid(study, SECONDARY_CAPTURE)
    capture.file_meta.MediaStorageSOPInstanceUID = capture.SOPInstanceUID
    capture.save_as(outbox.spool.report_path(capture.SOPInstanceUID), enforce_file_format=True)
    return capture


@pytest.mark.parametrize(
    ("accepted", "arrives"),
    [
        ((RLELossless, ExplicitVRLittleEndian, ImplicitVRLittleEndian), RLELossless),
        ((ExplicitVRLittleEndian, ImplicitVRLittleEndian), ExplicitVRLittleEndian),
        ((ImplicitVRLittleEndian,), ImplicitVRLittleEndian),
        ((RLELossless,), RLELossless),
    ],
)
def test_a_capture_goes_in_what_the_destination_takes(
    tmp_path: Path, accepted: tuple[str, ...], arrives: str
) -> None:
    with pacs_and_outbox(tmp_path, send=["sr", "sc"]) as (pacs, outbox):
        pacs.faults.transfer_syntaxes = tuple(map(str, accepted))
        sent = queue_capture(outbox)
        assert sent.file_meta.TransferSyntaxUID == RLELossless
        with delivering(outbox.config):
            wait_for(lambda: outbox.delivered(1))
        (path,) = pacs.folder.rglob("*.dcm")
        stored = dcmread(path)
        assert stored.file_meta.TransferSyntaxUID == arrives
        assert stored.SOPInstanceUID == sent.SOPInstanceUID
        assert np.array_equal(stored.pixel_array, sent.pixel_array)
