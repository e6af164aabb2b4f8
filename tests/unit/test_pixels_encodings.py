"""Files whose data set is encoded otherwise than their File Meta Information says."""

from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from dicom_ai_node.pixels import load, normalise, read_frame
from tests.builders.dicom_bytes import Syntax, dicom_file
from tests.builders.pixels import (
    ENCODERS,
    UID,
    quantised,
    radiograph,
    scene,
    set_codestream,
    set_pixels,
    write,
)

VALUES = quantised(scene(), 12)
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


def labelled(path: Path, ds: Dataset, real: UID, stated: UID) -> Path:
    """A file in ``real`` that says that it is in ``stated``."""
    file = BytesIO()
    # Explicit VR little endian is what pydicom writes compressed images in, too.
    implicit, little = real == ImplicitVRLittleEndian, real != ExplicitVRBigEndian
    ds.file_meta = FileMetaDataset()
    ds.save_as(file, implicit_vr=implicit, little_endian=little)
    path.write_bytes(dicom_file(file.getvalue(), Syntax(stated)))
    return path


def curve() -> Dataset:
    """Its words are turned round with the data set."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 12])
    item.add_new(
        "LUTData", "US", np.round(4095 * (np.arange(4096) / 4095) ** 2).astype(int).tolist()
    )
    return item


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize(
    ("real", "stated"), [pair for pair in product(NATIVE, repeat=2) if pair[0] != pair[1]], ids=str
)
def test_native_pixels_are_read_as_the_header_really_is(
    tmp_path: Path, real: UID, stated: UID, bits: int
) -> None:
    values = quantised(scene(), bits)
    ds = radiograph(values, bits, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4")
    set_pixels(ds, values, real)
    path = labelled(tmp_path / "a.dcm", ds, real, stated)
    np.testing.assert_array_equal(read_frame(path).values, values)
    np.testing.assert_array_equal(load(path, size=24), normalise(values, 24))


@pytest.mark.parametrize("real", NATIVE, ids=str)
@pytest.mark.parametrize("stated", NATIVE, ids=str)
def test_tables_go_by_the_real_encoding_too(tmp_path: Path, real: UID, stated: UID) -> None:
    ds = radiograph(VALUES, 12, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4")
    set_pixels(ds, VALUES, real)
    ds.VOILUTSequence = [curve()]
    tensor = load(labelled(tmp_path / "a.dcm", ds, real, stated), size=24)
    plain = radiograph(VALUES, 12)
    plain.VOILUTSequence = [curve()]
    np.testing.assert_allclose(tensor, load(write(tmp_path / "b.dcm", plain), size=24), atol=1e-6)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless], ids=str)
def test_codestreams_behind_a_header_in_implicit_vr(tmp_path: Path, syntax: UID) -> None:
    """A converter that forgets that compressed images are in Explicit VR (PS3.5 A.4)."""
    ds = radiograph(VALUES, 12, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4")
    set_codestream(ds, ENCODERS[syntax](VALUES, 12))
    path = labelled(tmp_path / "a.dcm", ds, ImplicitVRLittleEndian, syntax)
    np.testing.assert_array_equal(read_frame(path).values, VALUES)


@pytest.mark.parametrize("stated", [ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=str)
@pytest.mark.parametrize("real", [JPEG2000Lossless], ids=str)
def test_codestreams_under_the_name_of_a_native_syntax(
    tmp_path: Path, real: UID, stated: UID
) -> None:
    ds = radiograph(VALUES, 12, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4")
    set_codestream(ds, ENCODERS[real](VALUES, 12))
    path = labelled(tmp_path / "a.dcm", ds, real, stated)
    np.testing.assert_array_equal(read_frame(path).values, VALUES)


@pytest.mark.parametrize("bot", [True, False])
@pytest.mark.parametrize("stated", [JPEG2000Lossless, RLELossless, ExplicitVRLittleEndian], ids=str)
@pytest.mark.parametrize("real", [JPEG2000Lossless, RLELossless], ids=str)
def test_fragments_tell_what_they_are(tmp_path: Path, real: UID, stated: UID, bot: bool) -> None:
    ds = radiograph(VALUES, 12, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4")
    set_codestream(ds, ENCODERS[real](VALUES, 12), bot=bot)
    if not bot:
        ds.PixelData = ds.PixelData[8:]  # not even an empty table
    path = labelled(tmp_path / "a.dcm", ds, real, stated)
    np.testing.assert_array_equal(read_frame(path).values, VALUES)


def test_a_codestream_that_takes_the_place_of_native_pixels(tmp_path: Path) -> None:
    ds = radiograph(VALUES, 12, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4")
    ds.PixelData = ENCODERS[JPEG2000Lossless](VALUES, 12)
    assert len(ds.PixelData) < VALUES.nbytes
    for stated in (ExplicitVRLittleEndian, JPEG2000Lossless):
        path = labelled(tmp_path / "a.dcm", ds, ExplicitVRLittleEndian, stated)
        np.testing.assert_array_equal(read_frame(path).values, VALUES)


def test_native_pixels_that_begin_like_a_codestream_are_native(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[0, :2] = (0x4FFF, 0x51FF)
    path = labelled(
        tmp_path / "a.dcm",
        radiograph(values, 16, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4"),
        ExplicitVRLittleEndian,
        ExplicitVRLittleEndian,
    )
    np.testing.assert_array_equal(read_frame(path).values, values)
