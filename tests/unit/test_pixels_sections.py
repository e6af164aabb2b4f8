"""Sections of CT and MR: Hounsfield units whatever the header makes of them, and their order."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

from dicom_ai_node import pixels
from dicom_ai_node.dicom.classes import SECTIONS
from dicom_ai_node.errors import PixelsRefused
from dicom_ai_node.pixels import WINDOWS, Accepted, Shown, in_order, refuse_unfit
from dicom_ai_node.pixels.file import open_image
from dicom_ai_node.pixels.sections import AIR, Section, section
from dicom_ai_node.pixels.windows import windows
from tests.builders.pixels import radiograph, write
from tests.builders.series import body, ct_series

ROUTE = Accepted(SECTIONS, ("CT", "MR"))
HU = body(0.3)


def ct(values: Any, **changes: Any) -> Dataset:
    header = {
        "SOPClassUID": CTImageStorage, "Modality": "CT", "RescaleSlope": 1,
        "RescaleIntercept": -1024, "BitsStored": 8 * values.dtype.itemsize,
    }  # fmt: skip
    stated = {key: value for key, value in (header | changes).items() if value is not None}
    return radiograph(values, **stated)


def read(folder: Path, ds: Dataset) -> Section:
    return section(open_image(write(folder / "one.dcm", ds)))


def show(folder: Path, ds: Dataset, size: int = 32) -> Shown:
    path = write(folder / "one.dcm", ds)
    return pixels.show(path, size=size, contract=WINDOWS, accepted=ROUTE)


def stored(shift: int = 1024) -> Any:
    return (HU + shift).astype(np.uint16)


@pytest.mark.parametrize(
    ("values", "changes"),
    [
        (stored(), {}),
        (stored(), {"RescaleSlope": None}),
        (HU, {"RescaleIntercept": 0}),
        (HU, {"RescaleIntercept": None}),
        ((HU + 1024) * 2, {"RescaleSlope": 0.5}),
        (stored(), {"PhotometricInterpretation": "MONOCHROME1"}),
        (stored(8192), {"RescaleIntercept": -8192}),
    ],
)
def test_a_ct_is_in_hounsfield_units(tmp_path: Path, values: Any, changes: dict[str, Any]) -> None:
    found = read(tmp_path, ct(values, **changes))
    assert found.hounsfield
    assert not found.findings
    np.testing.assert_allclose(found.values, HU)


@pytest.mark.parametrize(
    ("values", "intercept", "words"),
    [
        (
            HU + np.arange(64, dtype=np.int16) % 16,
            -1024,
            r"-1024: air lies at -20\d\d: not applied",
        ),
        (stored(), 0, "RescaleIntercept 0: no pixel is below 0: -1024 is applied"),
        (stored(), None, "RescaleIntercept 0: no pixel is below 0: -1024 is applied"),
    ],
)
def test_an_intercept_that_the_image_belies_is_not_applied(
    tmp_path: Path, values: Any, intercept: int | None, words: str
) -> None:
    found = read(tmp_path, ct(values.astype(np.int16), RescaleIntercept=intercept))
    (finding,) = found.findings
    assert finding.rule == "I6"
    assert re.search(words, finding.reason)
    np.testing.assert_allclose(found.values, HU, atol=15)


def test_a_fill_far_below_air_is_no_reason_to_doubt_the_intercept(tmp_path: Path) -> None:
    """GE fills what lies outside of the field of view with -2000, and states -1024 all the same."""
    values = (HU + 1024).astype(np.int16)
    outside = np.hypot(*np.mgrid[-1:1:64j, -1:1:64j]) > 1
    values[outside] = -2000
    for padding in ({}, {"PixelPaddingValue": -2000}):
        found = read(tmp_path, ct(values, **padding))
        assert not found.findings
        assert set(found.values[outside]) == {np.float32(AIR)}
        np.testing.assert_allclose(found.values[~outside], HU[~outside])


def test_padding_in_the_middle_of_the_scale_becomes_air(tmp_path: Path) -> None:
    values = stored()
    values[:3] = 3000
    found = read(tmp_path, ct(values, PixelPaddingValue=3000))
    assert (found.values[:3] == AIR).all()
    np.testing.assert_allclose(found.values[3:], HU[3:])


def test_a_modality_table_goes_before_an_intercept(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = ((np.arange(4096) // 2).astype("<u2")).tobytes()
    table["LUTData"].VR = "OW"
    table["LUTDescriptor"].VR = "US"
    ds = ct(stored(), BitsStored=12, HighBit=11, RescaleIntercept=None, RescaleSlope=None)
    ds.ModalityLUTSequence = [table]
    found = read(tmp_path, ds)
    np.testing.assert_allclose(found.values, np.maximum((HU + 1024) / 2, AIR), atol=0.5)


def test_a_picture_of_a_ct_has_no_scale(tmp_path: Path) -> None:
    """What is burnt in at 8 bits is stretched as an MR is, in all three channels alike."""
    picture = np.clip((HU + 160) / 400 * 255, 0, 255).astype(np.uint8)
    found = read(tmp_path, ct(picture, RescaleIntercept=0))
    assert not found.hounsfield
    shown = show(tmp_path, ct(picture, RescaleIntercept=0)).tensor
    assert (shown[0] == shown[1]).all()
    np.testing.assert_allclose(shown, windows(picture, "", 32))


@pytest.mark.parametrize("kind", ["ED", "Z_EFF", "OD", "PCT"])
def test_another_unit_than_hounsfields_has_no_such_scale(tmp_path: Path, kind: str) -> None:
    assert not read(tmp_path, ct(stored(), RescaleType=kind)).hounsfield
    assert read(tmp_path, ct(stored(), RescaleType="US")).hounsfield


def test_an_mr_keeps_its_values_and_its_polarity(tmp_path: Path) -> None:
    mr = {"SOPClassUID": MRImageStorage, "Modality": "MR", "RescaleIntercept": None}
    plain = show(tmp_path, ct(stored(), **mr)).tensor
    rescaled = show(
        tmp_path, ct(stored(), **mr | {"RescaleIntercept": 7, "RescaleSlope": 3})
    ).tensor
    negative = ct(4000 - stored(), **mr, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(plain, rescaled)
    np.testing.assert_allclose(plain, show(tmp_path, negative).tensor, atol=1e-3)
    assert (plain[0] == plain[2]).all()


def test_padding_of_an_mr_does_not_shift_its_contrast(tmp_path: Path) -> None:
    mr = {"SOPClassUID": MRImageStorage, "Modality": "MR", "RescaleIntercept": None}
    values = stored()
    expected = show(tmp_path, ct(values, **mr)).tensor
    padded = np.where(np.arange(64) < 2, np.uint16(60000), values).astype(np.uint16)
    found = show(tmp_path, ct(padded, **mr, PixelPaddingValue=60000)).tensor
    np.testing.assert_allclose(found[:, :, 2:], expected[:, :, 2:], atol=0.02)


def test_a_ct_of_one_density_is_blank(tmp_path: Path) -> None:
    for value in (0, 1024):
        with pytest.raises(PixelsRefused) as refused:
            show(tmp_path, ct(np.full((64, 64), value, np.uint16)))
        assert refused.value.reason.code == "blank"


@pytest.mark.parametrize(
    ("image_type", "code"),
    [
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], "localiser"),
        (["DERIVED", "PRIMARY", "MPR", "NORM"], "reformat"),
        (["DERIVED", "SECONDARY", "REFORMATTED"], "reformat"),
        (["DERIVED", "SECONDARY", "PROJECTION IMAGE", "MIP"], "reformat"),
        (["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 PROT"], "screen"),
        (["DERIVED", "SECONDARY", "SCREEN SAVE"], "screen"),
        (["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "montage"),
        (["DERIVED", "PRIMARY", "PERFUSION", "RCBF"], "computed"),
    ],
)
def test_what_is_no_section_is_refused_by_its_image_type(image_type: list[str], code: str) -> None:
    for sop_class, modality in ((CTImageStorage, "CT"), (MRImageStorage, "MR")):
        ds = ct(stored(), SOPClassUID=sop_class, Modality=modality, ImageType=image_type)
        with pytest.raises(PixelsRefused) as refused:
            refuse_unfit(ds, ROUTE)
        assert refused.value.reason.code == code


def test_a_refusal_speaks_of_what_the_route_looks_at() -> None:
    film = radiograph(np.zeros((4, 4), np.uint16))
    with pytest.raises(PixelsRefused) as refused:
        refuse_unfit(film, ROUTE)
    assert refused.value.reason.code == "other_kind"
    assert "radiograph" not in refused.value.reason.text.split(":")[0]
    with pytest.raises(PixelsRefused) as refused:
        refuse_unfit(ct(stored()))
    assert refused.value.reason.code == "not_projection_radiograph"


def _axis(normal: int, sign: int) -> Callable[[int], dict[str, Any]]:
    rows, columns = (
        ([0, 1, 0], [0, 0, 1]), ([0, 0, 1], [1, 0, 0]), ([1, 0, 0], [0, 1, 0])
    )[normal]  # fmt: skip

    def placed(at: int) -> dict[str, Any]:
        position = [0.0, 0.0, 0.0]
        position[normal] = float(at)
        orientation = [*rows, *columns] if sign > 0 else [*columns, *rows]
        return {"ImagePositionPatient": position, "ImageOrientationPatient": orientation}

    return placed


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("normal", "first"), [(2, "the highest"), (1, "the lowest"), (0, "the lowest")]
)
def test_sections_are_put_in_order_along_the_body(normal: int, first: str, sign: int) -> None:
    """From head to foot, from front to back, from right to left, whichever way they were taken."""
    places = [30, 10, 50, 0, 20, 40]
    placed = _axis(normal, sign)
    headers = [_header(InstanceNumber=9 - i, **placed(at)) for i, at in enumerate(places)]
    found = [places[i] for i in in_order(headers).indices]
    assert found == sorted(places, reverse=first == "the highest")


def _header(**values: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def test_without_positions_the_instance_number_counts() -> None:
    headers = [_header(InstanceNumber=number) for number in (3, 1, 2)]
    assert in_order(headers).indices == (1, 2, 0)
    turned = [_header(InstanceNumber=number, **_axis(axis, 1)(number)) for axis, number in
              ((0, 3), (1, 1), (2, 2))]  # fmt: skip
    assert in_order(turned).indices == (1, 2, 0), "sections of three planes have no order"
    assert in_order([]).indices == ()


def test_a_sample_is_spread_over_millimetres_and_not_over_images() -> None:
    """Ten thin sections at the head end count for no more than the length that they cover."""
    places = [*range(10), *range(10, 101, 10)]
    headers = [_header(InstanceNumber=at, **_axis(1, 1)(at)) for at in places]
    chosen = [places[i] for i in in_order(headers).sample(5)]
    assert chosen == [10, 30, 50, 70, 90]
    assert in_order(headers).sample(0) == list(range(20))
    assert in_order(headers).sample(1) == [places.index(50)]


def test_a_sample_of_several_phases_takes_each_place_once() -> None:
    series = [image for phase in "abc" for image in ct_series(10, study="one", series=phase)]
    chosen = in_order(series).sample(4)
    assert len({float(series[i].ImagePositionPatient[2]) for i in chosen}) == 4
