"""Frames of an Enhanced object, each with a header as if it were an image of its own.

What differs between frames stands in functional groups (PS3.3 C.7.6.16): in the item of the frame,
else in the item that all share. The few macros that the pixels and their place need are read;
:func:`frame_header` puts their attributes where a classic image has them.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.dicom.values import Element, raw_element
from dicom_ai_node.pixels.lenient import integer, items, whole_value

_GEOMETRY: Final = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
_MACROS: Final = (
    *_GEOMETRY,
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "CTImageFrameTypeSequence",
    "MRImageFrameTypeSequence",
)
_OF_THE_WHOLE: Final = frozenset(
    map(
        tag_of,
        (
            "PerFrameFunctionalGroupsSequence",
            "SharedFunctionalGroupsSequence",
            "NumberOfFrames",
            "ExtendedOffsetTable",
            "ExtendedOffsetTableLengths",
        ),
    )
)


def frames_of(header: Dataset) -> int:
    """Return how many frames an object has; absent, empty and 0 mean one."""
    return max(1, integer(header, "NumberOfFrames") or 1)


def frame_header(header: Dataset, number: int) -> Dataset:
    """Return the header of frame ``number``, from 0 on, as a classic image would have it.

    What the functional groups say goes before what stands at the top.
    """
    tags = header.keys() - _OF_THE_WHOLE
    frame = _header_of(header, _elements(header, tags))
    for group in _groups(header, number, _MACROS):
        frame.update(_elements(group, group.keys()))
    kind = whole_value(frame, "FrameType")
    if kind is not None:
        frame.ImageType = kind
    return frame


def geometry(header: Dataset, number: int) -> Dataset:
    """Return of that header only what says where the frame lies."""
    frame = _header_of(header, {})
    for group in _groups(header, number, _GEOMETRY):
        frame.update(_elements(group, group.keys()))
    return frame


def _header_of(header: Dataset, elements: dict[BaseTag, Element]) -> Dataset:
    frame = Dataset(elements)
    implicit, little = header.original_encoding
    frame.set_original_encoding(implicit, little, header.original_character_set)
    if hasattr(header, "file_meta"):
        frame.file_meta = header.file_meta
    return frame


def _elements(header: Dataset, tags: Iterable[BaseTag]) -> dict[BaseTag, Element]:
    found = ((tag, raw_element(header, tag)) for tag in tags)
    return {tag: element for tag, element in found if element is not None}


def _groups(header: Dataset, number: int, macros: tuple[str, ...]) -> Iterator[Dataset]:
    """Yield the first item of each macro, those that all frames share before the frame's own."""
    shared = items(header, "SharedFunctionalGroupsSequence")[:1]
    own = whole_value(header, "PerFrameFunctionalGroupsSequence")
    mine = (own[number],) if isinstance(own, Sequence) and number < len(own) else ()
    for groups in (*shared, *mine):
        for keyword in macros:
            yield from items(groups, keyword)[:1]
