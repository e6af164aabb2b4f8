"""Enhanced objects: each frame by itself, with what its functional groups say of it."""

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_ai_node.dicom.classes import ENHANCED, RADIOGRAPHS
from dicom_ai_node.dicom.encoding import ElementSpan
from dicom_ai_node.dicom.header import header_of_file, mapped
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.errors import PixelsRefused
from dicom_ai_node.pixels import WINDOWS, Accepted, inputs, show_all, show_series
from dicom_ai_node.pixels.file import ImageFile, open_image
from dicom_ai_node.pixels.functional_groups import frame_header, frames_of
from dicom_ai_node.pixels.sections import section
from dicom_ai_node.pixels.windows import windows
from tests.builders.functional_groups import full_groups
from tests.builders.pixels import radiograph, write
from tests.builders.series import body, ct_series, enhanced, filed

COUNT = 7
ROUTE = Accepted(ENHANCED, ("CT", "MR"))
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
CODED = (RLELossless, JPEGLSLossless, JPEGLosslessSV1, JPEG2000Lossless)


def at(number: int, count: int = COUNT) -> Any:
    return body(number / (count - 1))


def written(folder: Path, ds: Dataset) -> Path:
    return write(folder / "enhanced.dcm", ds, ds.file_meta.TransferSyntaxUID)


def check_frames(image: ImageFile, count: int = COUNT) -> None:
    for number in (count - 1, 0, count // 2):
        found = section(image, frame=number, frames=count)
        assert found.hounsfield
        np.testing.assert_allclose(found.values, at(number, count))


@pytest.mark.parametrize("syntax", NATIVE)
def test_native_frames_are_found_by_their_place(tmp_path: Path, syntax: UID) -> None:
    ds = enhanced(COUNT, study="one", syntax=syntax)
    check_frames(open_image(written(tmp_path, ds)))


@pytest.mark.parametrize("syntax", CODED)
@pytest.mark.parametrize(("table", "fragments"), [("basic", 1), ("extended", 1), ("none", 1)])
def test_coded_frames_are_found_by_tables_or_by_counting(
    tmp_path: Path, syntax: UID, table: str, fragments: int
) -> None:
    ds = enhanced(COUNT, study="one", syntax=syntax, table=table, fragments=fragments)
    check_frames(open_image(written(tmp_path, ds)))


@pytest.mark.parametrize("table", ["basic", "none"])
def test_frames_of_several_fragments_are_told_apart(tmp_path: Path, table: str) -> None:
    """With an offset table by it, without one by where codestreams start."""
    for syntax in (JPEGLSLossless, JPEG2000Lossless):
        ds = enhanced(COUNT, study="one", syntax=syntax, table=table, fragments=3)
        check_frames(open_image(written(tmp_path, ds)))


def test_a_wrong_offset_table_is_not_believed(tmp_path: Path) -> None:
    ds = enhanced(COUNT, study="one", syntax=JPEGLSLossless)
    value = bytearray(ds.PixelData)
    value[12] += 2  # the second frame's offset, behind the item's head and the first frame's
    ds.PixelData = bytes(value)
    ds["PixelData"].is_undefined_length = True
    check_frames(open_image(written(tmp_path, ds)))


def test_fragments_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    ds = enhanced(COUNT, study="one", syntax=RLELossless)
    ds.PixelData = encapsulate([b"\x01" * 70] * (COUNT - 2), has_bot=False)
    ds["PixelData"].is_undefined_length = True
    with pytest.raises(PixelsRefused, match="5 fragments that cannot be told apart make 7 frames"):
        section(open_image(written(tmp_path, ds)), frame=1, frames=COUNT)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLSLossless])
def test_other_frames_are_not_decoded(tmp_path: Path, syntax: UID) -> None:
    """A damaged frame harms itself alone, and of a cut file what is there can be read."""
    ds = enhanced(COUNT, study="one", syntax=syntax)
    path = written(tmp_path, ds)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.7)])
    shown = show_all(path, size=32, contract=WINDOWS, accepted=ROUTE)
    assert 3 <= len(shown) < COUNT
    first = windows(np.maximum(at(0), -1000), "CT", 32)
    np.testing.assert_allclose(shown[0].tensor, first, atol=1e-6)
    with pytest.raises(PixelsRefused) as refused:
        section(open_image(path), frame=COUNT - 1, frames=COUNT)
    assert refused.value.reason.code == "truncated"


def test_the_frame_s_own_group_goes_before_the_shared_one(tmp_path: Path) -> None:
    ds = enhanced(3, study="one")
    (shared,) = ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    own = Dataset()
    own.RescaleIntercept, own.RescaleSlope, own.RescaleType = shared.RescaleIntercept, 2, "HU"
    ds.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence = [own]
    kind = Dataset()
    kind.FrameType = ["ORIGINAL", "PRIMARY", "AXIAL", "NONE"]
    ds.PerFrameFunctionalGroupsSequence[1].CTImageFrameTypeSequence = [kind]
    header = open_image(written(tmp_path, ds)).header
    slopes = [float(frame_header(header, number).RescaleSlope) for number in range(3)]
    assert slopes == [1, 2, 1]
    assert list(frame_header(header, 1).ImageType) == list(kind.FrameType)
    assert float(frame_header(header, 2).ImagePositionPatient[2]) == -10
    assert "PerFrameFunctionalGroupsSequence" not in frame_header(header, 0)
    assert frames_of(header) == 3


def test_a_sample_of_frames_lies_along_the_body(tmp_path: Path) -> None:
    """Whatever the order in which they are stored: by where the functional groups put them."""
    ds = enhanced(COUNT, study="one", shuffled=[4, 0, 6, 2, 5, 1, 3])
    shown = show_all(written(tmp_path, ds), size=32, contract=WINDOWS, accepted=ROUTE, sample=3)
    for found, number in zip(shown, (1, 3, 5), strict=True):
        expected = windows(np.maximum(at(number), -1000), "CT", 32)
        np.testing.assert_allclose(found.tensor, expected, atol=1e-6)


def test_without_functional_groups_frames_are_read_in_their_order(tmp_path: Path) -> None:
    ds = enhanced(COUNT, study="one", Modality="MR")
    del ds.PerFrameFunctionalGroupsSequence, ds.SharedFunctionalGroupsSequence
    shown = show_all(written(tmp_path, ds), size=32, contract=WINDOWS, accepted=ROUTE, sample=1)
    np.testing.assert_allclose(shown[0].tensor, windows(at(3), "MR", 32), atol=1e-5)


def test_an_enhanced_object_is_a_series_by_itself(tmp_path: Path) -> None:
    """Projections are the same whether each section is an image or all are frames of one."""
    pytest.importorskip("skimage")
    classic = filed(tmp_path / "classic", ct_series(40, study="one"))
    single = written(tmp_path, enhanced(40, study="one"))
    one, other = (
        show_series([(dcmread(path, stop_before_pixels=True), path) for path in paths], size=64)
        for paths in ([path for _, path in classic], [single])
    )
    assert one.tensor.shape == (2, 64, 64)
    np.testing.assert_array_equal(one.tensor, other.tensor)


@pytest.mark.parametrize("frames", [20_001, 2**31 - 1])
def test_frames_without_end_are_refused(tmp_path: Path, frames: int) -> None:
    ds = enhanced(3, study="one")
    ds.NumberOfFrames = frames
    with pytest.raises(PixelsRefused) as refused:
        show_all(written(tmp_path, ds), size=32, contract=WINDOWS, accepted=ROUTE, sample=1)
    assert refused.value.reason.code == "too_large"


def test_all_frames_are_no_more_than_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MOST_AT_ONCE", 5)
    path = written(tmp_path, enhanced(COUNT, study="one"))
    assert len(show_all(path, size=32, contract=WINDOWS, accepted=ROUTE)) == 5


def test_radiographs_of_several_frames_stay_refused(tmp_path: Path) -> None:
    ds = radiograph(np.zeros((8, 8), np.uint16), NumberOfFrames=2)
    route = Accepted(RADIOGRAPHS, ("DX",))
    with pytest.raises(PixelsRefused) as refused:
        show_all(write(tmp_path / "film.dcm", ds), size=32, accepted=route)
    assert refused.value.reason.code == "multi_frame"


def test_frames_are_read_from_a_map(tmp_path: Path) -> None:
    """A native frame is a view of the file: nobody reads the others to get to it."""
    image = open_image(written(tmp_path, enhanced(COUNT, study="one")), Limits())
    assert isinstance(image.data.obj, mmap.mmap)


def elements(path: Path) -> int:
    """How many data elements and items a header has, as ``limits.elements`` counts them."""

    def counted(parts: Sequence[ElementSpan]) -> int:
        return sum(1 + sum(1 + counted(item.parts) for item in part.items or ()) for part in parts)

    return counted(header_of_file(mapped(path), DEFAULT).header.parts)


def test_a_legal_enhanced_ct_of_2000_frames_is_within_the_limits(tmp_path: Path) -> None:
    def of(frames: int) -> int:
        ds = enhanced(frames, study=f"{frames}", side=8)
        ds.PerFrameFunctionalGroupsSequence = [full_groups(number) for number in range(frames)]
        ((_, path),) = filed(tmp_path, [ds])
        return elements(path)

    few, more = of(2), of(12)
    a_frame = (more - few) / 10
    assert a_frame > 150, "as rich as the standard has them"
    assert few + 1998 * a_frame < 0.8 * DEFAULT.elements


def test_the_nearest_frame_stands_for_one_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((_, path),) = filed(tmp_path, [enhanced(30, study="one")])
    tried: list[int] = []

    def watched(image: ImageFile, limits: Limits, *, frame: int, frames: int) -> Any:
        tried.append(frame)
        if frame in (14, 13):
            raise PixelsRefused("truncated", "cut off")
        return section(image, limits, frame=frame, frames=frames)

    monkeypatch.setattr(inputs, "section", watched)
    shown = show_all(path, size=32, contract=WINDOWS, accepted=ROUTE, sample=3)
    assert len(shown) == 3
    assert tried == [5, 14, 13, 15, 24], "the nearest that was not tried, until one is read"
