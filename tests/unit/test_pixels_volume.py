"""A series becomes one volume: by where its images lie, not by how they are numbered."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_ai_node.errors import PixelsRefused
from dicom_ai_node.pixels.volume import AIR, STEP, Plane, Volume, arrange, plane_of, volume

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
ROWS, COLUMNS = 24, 30


def planes(
    depths: Sequence[float], orientation: tuple[float, ...] = AXIAL, spacing: float = 2.0
) -> list[Plane]:
    along, down = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(along, down)
    return [
        Plane(tuple(normal * depth), orientation, (spacing, spacing), (ROWS, COLUMNS))
        for depth in depths
    ]


def scene(left: Any, back: Any, head: Any) -> Any:
    """Hounsfield units of a body without symmetry, of mm in the patient."""
    return 300 + 6.0 * left - 4.0 * back + 5.0 * head


def seen(plane: Plane) -> NDArray[np.int16]:
    """What ``scene`` shows in a plane."""
    rows, columns = np.mgrid[: plane.shape[0], : plane.shape[1]]
    along, down = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    at = (
        np.array(plane.position)
        + rows[..., None] * plane.spacing[0] * down
        + columns[..., None] * plane.spacing[1] * along
    )
    return np.asarray(np.rint(scene(*np.moveaxis(at, 2, 0))), np.int16)


def built(given: Sequence[Plane], show: Callable[[Plane], NDArray[Any]] = seen) -> Volume:
    stack = arrange(given)
    return volume(stack, (show(given[at]) for at in stack.order))


def slopes(found: Volume) -> list[float]:
    """Mean change of a step along each axis, of what images show, without the field's edge."""
    values = np.where(found.values == AIR, np.nan, found.values.astype(np.float64))
    values = values[2:-2, 2:-2, 2:-2]
    return [round(float(np.nanmean(np.diff(values, axis=axis))), 1) for axis in range(3)]


DOWN_BACK_LEFT = [-5.0 * STEP, -4.0 * STEP, 6.0 * STEP]
"""What ``scene`` changes by along the axes of a volume."""


def test_a_missing_image_is_as_if_it_had_never_been() -> None:
    given, lost = planes(range(0, 60, 2)), {0, 10, 11, 29}
    stack = arrange(given)
    found = volume(stack, (None if at in lost else seen(given[at]) for at in stack.order))
    left = [plane for at, plane in enumerate(given) if at not in lost]
    np.testing.assert_array_equal(found.values, built(left).values)
    with pytest.raises(ValueError, match="got none"):
        volume(stack, [None] * len(given))


def test_files_in_any_order_and_a_table_that_moves_either_way_make_the_same_volume() -> None:
    rising = planes(range(0, 60, 2))
    shuffled = random.Random(1).sample(rising, len(rising))

    expected = built(rising).values

    assert expected.shape == (30, ROWS, COLUMNS)
    for given in (shuffled, rising[::-1]):
        assert np.array_equal(built(given).values, expected)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL])
def test_whatever_the_sections_the_patient_stands_upright(orientation: tuple[float, ...]) -> None:
    found = built(planes(range(0, 60, 2), orientation))

    assert slopes(found) == DOWN_BACK_LEFT


@pytest.mark.parametrize("flipped", [(-1, 1), (1, -1), (-1, -1)])
def test_prone_or_feet_first_stands_upright_all_the_same(flipped: tuple[int, int]) -> None:
    along, down = flipped
    orientation = (1.0 * along, 0.0, 0.0, 0.0, 1.0 * down, 0.0)

    assert slopes(built(planes(range(0, 60, 2), orientation))) == DOWN_BACK_LEFT


@pytest.mark.parametrize(("thickness", "spacing"), [(0.5, 0.6), (1.0, 1.0), (5.0, 2.0), (3.0, 4.0)])
def test_thin_and_thick_sections_lie_on_one_grid(thickness: float, spacing: float) -> None:
    depths = np.arange(0, 80, thickness).tolist()
    found = built(planes(depths, spacing=spacing))

    assert found.values.shape[0] == round(depths[-1] / STEP) + 1
    assert found.values.shape[1:] == (int(ROWS * spacing / 2), int(COLUMNS * spacing / 2))
    # A section lies up to half a voxel from the middle of its own.
    assert np.allclose(slopes(found), DOWN_BACK_LEFT, atol=0.7)


def test_a_thousand_sections_take_the_memory_of_their_millimetres() -> None:
    given = planes(np.arange(0, 100, 0.1).tolist())

    found = built(given)

    assert len(given) == 1000
    assert found.values.shape == (51, ROWS, COLUMNS)


def test_of_two_sections_at_one_place_the_first_counts() -> None:
    given = planes([*range(0, 60, 2), *range(0, 60, 2)])
    stack = arrange(given)

    assert stack.duplicates == 30
    assert sorted(stack.order) == list(range(30))
    assert arrange(given[::-1]).duplicates == 30


def test_what_is_missing_between_two_sections_is_interpolated() -> None:
    depths = [depth for depth in range(0, 60, 2) if not 20 < depth < 32]

    assert np.abs(built(planes(depths)).values - built(planes(range(0, 60, 2))).values).max() <= 1


def test_a_tilted_gantry_is_set_right() -> None:
    lean = np.radians(20)
    orientation = (1.0, 0.0, 0.0, 0.0, float(np.cos(lean)), float(-np.sin(lean)))
    # The table moves along the patient, and the gantry leans.
    given = [
        Plane((0.0, 0.0, float(z)), orientation, (2.0, 2.0), (ROWS, COLUMNS)) for z in range(60)
    ]

    found = built(given)

    # In the frame of the gantry, the slopes are those of the scene along its own axes.
    normal, down = (0, np.sin(lean), np.cos(lean)), (0, np.cos(lean), -np.sin(lean))
    expected = [-STEP * (scene(*normal) - 300), STEP * (scene(*down) - 300), 6.0 * STEP]
    assert np.allclose(slopes(found), expected, atol=0.7)
    assert found.values.shape[1] > ROWS


def test_a_sample_is_spread_evenly_and_keeps_both_ends() -> None:
    stack = arrange(planes(range(0, 100)))

    few = stack.sampled(10)

    assert len(few.order) == 10
    assert few.depths[[0, -1]].tolist() == [0, 99]
    assert np.diff(few.depths).max() <= 11
    assert stack.sampled(0) is stack
    assert stack.sampled(200) is stack


def changed(number: int, **values: Any) -> list[Plane]:
    given = planes(range(0, 60, 2))
    given[number] = replace(given[number], **values)
    return given


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        (changed(3, shape=(ROWS, ROWS)), "inconsistent_series", "Rows and Columns of 1 of 30"),
        (changed(3, spacing=(2.0, 2.5)), "inconsistent_series", "PixelSpacing of 1 of 30"),
        (changed(3, orientation=CORONAL), "inconsistent_series", "ImageOrientationPatient"),
        (changed(3, position=(500.0, 0.0, 6.0)), "inconsistent_series", "500 mm sideways"),
        (planes([0, 2, 4]), "incomplete_series", "3 sections, expected 8"),
        (planes([0] * 20), "incomplete_series", "1 sections"),
        ([], "incomplete_series", "0 sections"),
        (planes([*range(0, 20, 2), *range(60, 80, 2)]), "incomplete_series", "a gap of 42 mm"),
        (planes(np.arange(0, 1e7, 15).tolist()[:150_000]), "too_large", "voxels"),
    ],
)
def test_what_is_no_volume_is_refused_with_its_reason(
    given: list[Plane], code: str, says: str
) -> None:
    with pytest.raises(PixelsRefused) as refused:
        arrange(given)

    assert refused.value.reason.code == code
    assert says in refused.value.reason.text


def header(**changes: Any) -> Dataset:
    ds = Dataset()
    ds.ImagePositionPatient = [-10, -20, 30]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [0.7, 0.8]
    ds.Rows, ds.Columns = 512, 256
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def test_a_header_says_where_its_image_lies() -> None:
    assert plane_of(header()) == Plane((-10, -20, 30), AXIAL, (0.7, 0.8), (512, 256))


@pytest.mark.parametrize(
    "changes",
    [
        {"ImagePositionPatient": None},
        {"ImagePositionPatient": [1, 2]},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
        {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
        {"PixelSpacing": [0, 0]},
        {"PixelSpacing": None},
        {"Rows": 0},
    ],
)
def test_a_header_that_does_not_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PixelsRefused) as refused:
        plane_of(header(**changes))

    assert refused.value.reason.code == "no_geometry"


def test_images_that_do_not_fit_the_stack_are_errors() -> None:
    stack = arrange(planes(range(0, 60, 2)))

    with pytest.raises(ValueError, match="shape"):
        volume(stack, [np.zeros((3, 3))] * 30)
    with pytest.raises(ValueError, match="shorter"):
        volume(stack, [np.zeros((ROWS, COLUMNS))] * 29)
