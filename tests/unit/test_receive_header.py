"""What filing reads of a received data set."""

import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import encode

from dicom_ai_node.dicom.part10 import file_head
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.receive.requests import Identity, identity_of, read_header
from tests.builders.receiving import EXPLICIT, encoded, radiograph


def identity(path: Path, data: bytes, syntax: str = EXPLICIT) -> Identity:
    path.write_bytes(b"head" + data)
    return identity_of(read_header(path, offset=4, transfer_syntax=syntax))


def of(ds: Dataset) -> Identity:
    return Identity(ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID)


@pytest.mark.parametrize(
    ("syntax", "implicit", "little", "deflated"),
    [
        (EXPLICIT, False, True, False),
        (ImplicitVRLittleEndian, True, True, False),
        (ExplicitVRBigEndian, False, False, False),
        (DeflatedExplicitVRLittleEndian, False, True, True),
    ],
)
def test_identity_in_every_encoding(
    tmp_path: Path, syntax: str, implicit: bool, little: bool, deflated: bool
) -> None:
    ds = radiograph()
    del ds.PixelData
    data = encode(ds, implicit, little, deflated)
    assert data is not None
    assert identity(tmp_path / "a", data, syntax) == of(ds)


def test_a_header_that_cannot_be_followed_to_its_end_gives_no_identity(tmp_path: Path) -> None:
    data = encoded(radiograph())
    behind = data.index(b"\x28\x00\x10\x00")
    with pytest.raises(UnreadableInstance, match=r"ends within its header, at \(0028,0010\) Rows"):
        identity(tmp_path / "a", data[: behind + 9])
    with pytest.raises(UnreadableInstance, match="cannot be read"):
        identity(tmp_path / "a", data[:behind] + b"\xff" * 100)


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing"),
        (b"", "missing"),
        *((bad, "not a UID") for bad in (b"not a uid", b"1." * 33, b"...", b"1..2", b"1.2.")),
        (b"\xb9.2", "not a UID"),
    ],
)
def test_each_uid_must_be_there_and_be_one(
    tmp_path: Path, keyword: str, value: bytes | None, reason: str
) -> None:
    ds = radiograph()
    good = str(ds[keyword].value).encode()
    data = encoded(ds)
    if value is None:
        delattr(ds, keyword)
        data = encoded(ds)
    else:
        padded = good + b"\0" * (len(good) % 2)
        value += b"\0" * (len(value) % 2)
        position = data.index(padded) - 2
        data = (
            data[:position]
            + len(value).to_bytes(2, "little")
            + value
            + data[position + 2 + len(padded) :]
        )
    with pytest.raises(UnreadableInstance, match=f"{keyword} is {reason}"):
        identity(tmp_path / "a", data)


def test_the_reason_never_quotes_the_value(tmp_path: Path) -> None:
    data = encoded(radiograph()).replace(b"Secret^Patient", b"Secret^Patient")
    broken = data.replace(data[data.index(b"\x20\x00\x0d\x00") + 8 :][:10], b"Secret^Pat", 1)
    with pytest.raises(UnreadableInstance) as error:
        identity(tmp_path / "a", broken)
    assert "Secret" not in str(error.value)


def test_leading_zeros_are_common_and_kept(tmp_path: Path) -> None:
    ds = radiograph(study="1.2.3")
    data = encoded(ds).replace(b"1.2.3\0", b"1.2.03")
    assert identity(tmp_path / "a", data).study_instance_uid == "1.2.03"


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.binary(max_size=300),
    syntax=st.sampled_from([EXPLICIT, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]),
)
def test_any_bytes_give_an_identity_or_a_reason(tmp_path: Path, data: bytes, syntax: str) -> None:
    with pytest.raises(UnreadableInstance):
        identity(tmp_path / "a", data, syntax)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_damaged_header_gives_an_identity_or_a_reason(
    tmp_path: Path, position: int, byte: int
) -> None:
    data = bytearray(encoded(radiograph()))
    data[position] = byte
    with suppress(UnreadableInstance):
        identity(tmp_path / "a", bytes(data))


def test_a_small_file_that_inflates_without_end_is_read_in_part(tmp_path: Path) -> None:
    ds = radiograph()
    del ds.PixelData
    bomb = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = bomb.compress(encoded(ds)) + bomb.compress(bytes(20_000_000)) + bomb.flush()
    assert identity(tmp_path / "a", data, DeflatedExplicitVRLittleEndian) == of(ds)


def test_header_stops_before_the_pixels(tmp_path: Path) -> None:
    ds = radiograph()
    path = tmp_path / "a"
    path.write_bytes(encoded(ds))
    header = read_header(path, offset=0, transfer_syntax=EXPLICIT).dataset()
    assert "PixelData" not in header
    assert header.PatientID == ds.PatientID


def test_a_missing_file_is_not_the_senders_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "gone", offset=0, transfer_syntax=EXPLICIT)


def test_file_head_is_read_back(tmp_path: Path) -> None:
    ds = radiograph()
    head = file_head(
        sop_class_uid=ds.SOPClassUID,
        sop_instance_uid=ds.SOPInstanceUID,
        transfer_syntax_uid=EXPLICIT,
    )
    path = tmp_path / "a.dcm"
    path.write_bytes(head + encoded(ds))
    back = dcmread(path)
    assert back.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert back.file_meta.MediaStorageSOPClassUID == ds.SOPClassUID
    assert back.file_meta.TransferSyntaxUID == EXPLICIT
    assert back.PixelData == ds.PixelData
