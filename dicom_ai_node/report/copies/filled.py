"""Copies with values filled in: a new instance beside the source, or the same one on its way.

:func:`filled_copy` makes modes B and C: a derived instance, the source stays as it is.
:func:`coerced` makes mode D: the same instance with PatientAge, on its way to the archive that has
not seen it yet.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from blake3 import blake3

from dicom_ai_node.answers import ModelIdentity
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.encoding import is_pixel_data, tag_of
from dicom_ai_node.dicom.uids import PROGRAM_UID, uid_of
from dicom_ai_node.errors import FillError
from dicom_ai_node.report.copies.fill import AGE, BODY_PART, SEX, Fill, checked
from dicom_ai_node.report.copies.history import (
    contributing_equipment,
    original_attributes,
    private_block,
    sentences,
    source_image,
)
from dicom_ai_node.report.copies.source import SourceFile, source_of
from dicom_ai_node.report.document import local_time
from dicom_ai_node.report.identity import ReportFile
from dicom_ai_node.report.words import listed

SERIES_NUMBER: Final = 90000
"""Added to the source's Series Number, so that copies stand behind everything else."""
_LO_LENGTH, _ST_LENGTH = 64, 1024
_SHORT_NAMES = {AGE: "age", SEX: "sex", BODY_PART: "body part"}


def filled_copy(
    content: bytes,
    fills: Sequence[Fill],
    *,
    at: datetime,
    settings: ReportSettings,
    model: ModelIdentity | None = None,
    allow_sex: bool = False,
) -> ReportFile:
    """Return a copy of an instance with ``fills`` in it, under UIDs of its own in the same study.

    ``content`` is the file (PS3.10) in any transfer syntax; pixel data are neither decoded nor
    transcoded. ``at`` is when the values were approved, ``model`` what inferred those that are
    inferred; ``allow_sex`` says that the copy goes to research, or that a person approved this very
    PatientSex. The same arguments return the same bytes; who approved and when is not in the UIDs.

    Raises FillError: a value must not be filled in, or the instance was itself made by this
    program; UnreadableInstance: no copy can be made of the file, see :func:`.source.source_of`.
    """
    fills = checked(fills, allow_sex=allow_sex)
    source = source_of(content)
    if source.uid("InstanceCreatorUID") == PROGRAM_UID:
        raise FillError("the instance was made by this program: fill in its source")
    if source.part(tag_of("SharedFunctionalGroupsSequence")) is not None:
        raise FillError("an image with functional groups says of each frame that it is original")
    uids = _uids(source, fills, model)
    changes: dict[int, bytes | None] = {}
    changes |= _identity(source, uids, at) | _series(source, fills) | _values(source, fills)
    images = {}
    if _is_image(source):
        changes |= _derivation(source, fills)
        images = source_image(source)
    changes |= images | original_attributes(source, changes, fills, at=at)
    changes |= contributing_equipment(source, fills, at=at, settings=settings)
    changes |= private_block(source, fills, model)
    changes[tag_of("PatientComments")] = None  # free text may contradict, or name the patient
    return source.rebuilt(changes, uids["SOPInstanceUID"])


def age_in_file(content: bytes) -> str:
    """Return PatientAge as it stands in a file, '' where there is none.

    Raises UnreadableInstance: as :func:`coerced` does.
    """
    return source_of(content).value(AGE).decode("latin-1")


def coerced(
    content: bytes, fill: Fill, *, at: datetime, model: ModelIdentity | None = None
) -> ReportFile:
    """Return the instance with ``fill`` in it, under its own UIDs.

    Only for who stands between the modality and the archive: an archive that already has the
    instance would hold two versions under one UID. Arguments as of :func:`filled_copy`.

    Raises FillError: the value is not one of PatientAge; UnreadableInstance: no copy can be made of
    the file, see :func:`.source.source_of`.
    """
    if fill.keyword != AGE:
        raise FillError(f"{fill.keyword} is never filled in under the UID of the source")
    fills = checked([fill], allow_sex=False)
    source = source_of(content)
    changes = _values(source, fills)
    changes |= original_attributes(source, changes, fills, at=at)
    changes |= private_block(source, fills, model)
    return source.rebuilt(changes, source.uid("SOPInstanceUID"))


def _values(source: SourceFile, fills: Sequence[Fill]) -> dict[int, bytes]:
    return source.encoding.texts({fill.keyword: fill.value for fill in fills})


def _uids(source: SourceFile, fills: Sequence[Fill], model: ModelIdentity | None) -> dict[str, str]:
    what = [
        repr((one.keyword, one.value, one.source, one.low, one.high, one.probability, one.rules))
        for one in fills
    ]
    maker = (model.sha256 if model else "", *what)
    digest = blake3(source.data).hexdigest()
    series, instance = source.uid("SeriesInstanceUID"), source.uid("SOPInstanceUID")
    return {
        "SeriesInstanceUID": uid_of("copy", "series", series, *maker),
        "SOPInstanceUID": uid_of("copy", "instance", instance, digest, *maker),
    }


def _identity(source: SourceFile, uids: dict[str, str], at: datetime) -> dict[int, bytes]:
    offset = source.value("TimezoneOffsetFromUTC").decode("latin-1")
    when = local_time(at, offset=offset)
    texts = {
        "InstanceCreationDate": when.strftime("%Y%m%d"),
        "InstanceCreationTime": when.strftime("%H%M%S"),
        "InstanceCreatorUID": PROGRAM_UID,
    }
    return source.encoding.texts(texts | uids)


def _series(source: SourceFile, fills: Sequence[Fill]) -> dict[int, bytes]:
    number = source.value("SeriesNumber").strip(b" ")
    known = int(number) if number.isdigit() and len(number) <= 4 else 0
    description = tag_of("SeriesDescription")
    value = _with_suffix(source.value("SeriesDescription"), _suffix(fills))
    return {
        description: source.encoding.element(description, "LO", value),
        **source.encoding.texts({"SeriesNumber": str(SERIES_NUMBER + known)}),
    }


def _suffix(fills: Sequence[Fill]) -> str:
    recorded = [_SHORT_NAMES[fill.keyword] for fill in fills if not fill.inferred]
    inferred = [_SHORT_NAMES[fill.keyword] for fill in fills if fill.inferred]
    words = [f"{listed(recorded)} filled"] if recorded else []
    words += [f"{listed(inferred)} inferred, not verified"] if inferred else []
    return f"[{', '.join(words)}]"


def _with_suffix(value: bytes, suffix: str) -> bytes:
    """Return an LO with ASCII behind it, at most 64 characters.

    Text of other character sets cannot be cut without decoding it: where it does not fit, the
    suffix stands alone. The whole value is kept among the original attributes.
    """
    room = _LO_LENGTH - len(suffix) - 1
    if len(value) > room:
        value = value[:room].rstrip(b" ") if value.isascii() and b"\x1b" not in value else b""
    return value + b" " * bool(value) + suffix.encode("ascii")


def _is_image(source: SourceFile) -> bool:
    pixels = any(is_pixel_data(part.tag) for part in source.parts)
    return pixels or source.part(tag_of("ImageType")) is not None


def _derivation(source: SourceFile, fills: Sequence[Fill]) -> dict[int, bytes]:
    image_type, description = tag_of("ImageType"), tag_of("DerivationDescription")
    rest = source.value("ImageType").partition(b"\\")[2] or b"SECONDARY"
    text = f"Header values filled in, pixel data unchanged. {sentences(fills)}".encode("ascii")
    before = source.value("DerivationDescription")
    if before and len(before) + 2 + len(text) <= _ST_LENGTH:
        text = before + b"; " + text
    return {
        image_type: source.encoding.element(image_type, "CS", b"DERIVED\\" + rest),
        description: source.encoding.element(description, "ST", text),
    }
