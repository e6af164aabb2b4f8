import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    MPEG2MPML,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
)

from dicom_ai_node.errors import PixelsRefused
from dicom_ai_node.pixels import RefusalCode, load, refuse_unfit
from tests.builders.pixels import (
    ENCODERS,
    UID,
    quantised,
    radiograph,
    scene,
    set_codestream,
    write,
    write_as,
)

VALUES = quantised(scene(), 12)


def refusal(path: Path) -> str:
    with pytest.raises(PixelsRefused) as caught:
        load(path, size=24)
    (code,) = (code for code in RefusalCode if code == caught.value.reason.code)
    assert caught.value.reason.text.startswith(code.text)
    return code.value


def test_codes_are_snake_case_and_explained() -> None:
    for code in RefusalCode:
        assert code == code.name.lower()
        assert code.text[0].isupper()
        assert "\n" not in code.text


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("multi_frame", {"NumberOfFrames": "2"}),
        ("no_pixels", {"Rows": 0}),
        ("no_pixels", {"Columns": None}),
        ("no_pixels", {"PixelData": None}),
        ("no_pixels", {"PixelData": b""}),
        ("too_large", {"Rows": 65535, "Columns": 65535}),
        ("one_bit", {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}),
        ("one_bit", {"BitsStored": 1, "HighBit": 0}),
        ("unsupported_depth", {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}),
        ("unsupported_depth", {"BitsStored": 17}),
        ("unsupported_layout", {"PhotometricInterpretation": None}),
        ("unsupported_layout", {"PhotometricInterpretation": "CIELAB"}),
        ("unsupported_layout", {"SamplesPerPixel": 4}),
        ("truncated", {"PixelData": VALUES.tobytes()[:-2]}),
        ("truncated", {"Rows": 97}),
        ("blank", {"PixelData": bytes(VALUES.nbytes)}),
        ("for_processing", {"PresentationIntentType": "FOR PROCESSING"}),
        ("for_processing", {"SOPClassUID": DigitalXRayImageStorageForProcessing}),
        ("localiser", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        ("not_projection_radiograph", {"SOPClassUID": CTImageStorage, "Modality": "CT"}),
        ("not_projection_radiograph", {"SOPClassUID": MRImageStorage}),
        ("not_projection_radiograph", {"SOPClassUID": UltrasoundImageStorage}),
        (
            "not_projection_radiograph",
            {"SOPClassUID": DigitalMammographyXRayImageStorageForPresentation},
        ),
        (
            "not_projection_radiograph",
            {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "CT"},
        ),
        ("not_projection_radiograph", {"SOPClassUID": None}),
    ],
)
def test_header_refusals(tmp_path: Path, code: str, changes: dict[str, object]) -> None:
    ds = radiograph(VALUES, 12, **changes)
    if ds.get("SOPClassUID") is None:
        ds.SOPClassUID = ""
    path = tmp_path / "a.dcm"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path)
    assert refusal(path) == code


@pytest.mark.parametrize(
    "sop_class", [EnhancedSRStorage, GrayscaleSoftcopyPresentationStateStorage]
)
def test_objects_without_pixels_are_no_images(sop_class: UID) -> None:
    ds = radiograph(VALUES, 12, SOPClassUID=sop_class, Rows=None)
    with pytest.raises(PixelsRefused) as caught:
        refuse_unfit(ds)
    assert caught.value.reason.code == "not_an_image"


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "OT", "", None])
def test_captures_of_radiographs_are_let_in(modality: str | None) -> None:
    refuse_unfit(
        radiograph(
            VALUES,
            12,
            SOPClassUID=SecondaryCaptureImageStorage,
            Modality=modality,
            NumberOfFrames="1",
        )
    )


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_refusals_quote_no_foreign_text() -> None:
    for keyword in ("SOPClassUID", "Modality"):
        with pytest.raises(PixelsRefused) as caught:
            refuse_unfit(radiograph(VALUES, 12, **{keyword: "Doe^Jane"}))
        assert "Doe" not in caught.value.reason.text


@pytest.mark.parametrize(
    ("of_file", "stated", "code"),
    [
        (CTImageStorage, None, "not_projection_radiograph"),
        (DigitalXRayImageStorageForProcessing, None, "for_processing"),
        # what the data set says of itself is believed
        (DigitalXRayImageStorageForPresentation, CTImageStorage, "not_projection_radiograph"),
        (DigitalXRayImageStorageForPresentation, "0", "not_projection_radiograph"),
        (DigitalXRayImageStorageForPresentation, None, ""),
    ],
)
def test_file_meta_names_the_class_where_the_data_set_does_not(
    tmp_path: Path, of_file: UID, stated: str | None, code: str
) -> None:
    ds = radiograph(VALUES, 12, SOPClassUID=stated, SOPInstanceUID=None, Modality=None)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = of_file
    ds.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    path = write(tmp_path / "a.dcm", ds)
    assert code or load(path, size=24).any()
    assert not code or refusal(path) == code


def test_wrong_body_part_is_let_in() -> None:
    refuse_unfit(radiograph(VALUES, 12, BodyPartExamined="KNEE"))


@pytest.mark.parametrize(
    "syntax",
    [
        RLELossless,
        JPEGBaseline8Bit,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEG2000Lossless,
        HTJ2KLossless,
    ],
    ids=lambda syntax: syntax.name,
)
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_cut_codestreams(tmp_path: Path, syntax: UID, kept: float) -> None:
    values = quantised(scene(), 8)
    code = ENCODERS[syntax](values, 8)
    ds = radiograph(values)
    set_codestream(ds, code[: int(kept * len(code))])
    assert refusal(write(tmp_path / "a.dcm", ds, syntax)) in {"truncated", "undecodable"}


def test_cut_file(tmp_path: Path) -> None:
    path = write_as(tmp_path / "a.dcm", VALUES, JPEGLSLossless, 12)
    path.write_bytes(path.read_bytes()[:-2000])
    assert refusal(path) == "truncated"


@pytest.mark.parametrize(
    "syntax", [JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless]
)
def test_codestream_of_another_size(tmp_path: Path, syntax: UID) -> None:
    ds = radiograph(VALUES, 12, Rows=VALUES.shape[0] - 1)
    set_codestream(ds, ENCODERS[syntax](VALUES, 12))
    assert refusal(write(tmp_path / "a.dcm", ds, syntax)) == "size_mismatch"


def test_small_header_with_a_huge_codestream_is_never_decoded(tmp_path: Path) -> None:
    code = bytearray(ENCODERS[JPEG2000Lossless](VALUES, 12))
    struct.pack_into(">LL", code, 8, 60000, 60000)
    struct.pack_into(">LL", code, 24, 60000, 60000)
    ds = radiograph(VALUES, 12)
    set_codestream(ds, bytes(code))
    assert refusal(write(tmp_path / "a.dcm", ds, JPEG2000Lossless)) == "size_mismatch"


def test_colour(tmp_path: Path) -> None:
    picture = scene()
    values = np.dstack([quantised(p, 8) for p in (picture, picture[::-1], picture[:, ::-1])])
    path = write_as(tmp_path / "a.dcm", values, ExplicitVRLittleEndian)
    assert refusal(path) == "colour"


@pytest.mark.parametrize("stream", [b"\xff\xd8\xff\xc9" + bytes(20), b"\0\0\1\xb3" + bytes(40)])
def test_unknown_compression(tmp_path: Path, stream: bytes) -> None:
    ds = radiograph(VALUES, 12)
    set_codestream(ds, stream)
    assert refusal(write(tmp_path / "a.dcm", ds, MPEG2MPML)) == "unsupported_syntax"


@pytest.mark.parametrize(
    "stream", [b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\xff\xff", b"\xff\x4f\xff\x51"]
)
def test_codestream_that_ends_in_its_header(tmp_path: Path, stream: bytes) -> None:
    ds = radiograph(VALUES, 12)
    set_codestream(ds, stream)
    path = write(tmp_path / "a.dcm", ds, JPEGBaseline8Bit)
    assert refusal(path) in {"truncated", "undecodable"}


def test_four_components(tmp_path: Path) -> None:
    values = np.dstack([quantised(scene(), 8)] * 4)
    ds = radiograph(values[..., :3])
    code = imagecodecs.jpeg2k_encode(values, codecformat="j2k", level=0)
    set_codestream(ds, bytes(code))
    assert refusal(write(tmp_path / "a.dcm", ds, JPEG2000Lossless)) == "unsupported_layout"


@pytest.mark.parametrize("segments", [0, 1, 3, 15])
def test_rle_with_the_wrong_number_of_segments(tmp_path: Path, segments: int) -> None:
    code = bytearray(ENCODERS[RLELossless](VALUES, 12))
    code[0] = segments
    ds = radiograph(VALUES, 12)
    set_codestream(ds, bytes(code))
    assert refusal(write(tmp_path / "a.dcm", ds, RLELossless)) == "undecodable"


def test_all_padding(tmp_path: Path) -> None:
    ds = radiograph(np.full((64, 64), 9, np.uint16), 12)
    ds.add_new("PixelPaddingValue", "US", 9)
    assert refusal(write(tmp_path / "a.dcm", ds)) == "blank"
