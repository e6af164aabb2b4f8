"""What a copy says of itself: previous values, equipment, and a private block for programs."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from pydicom.sr.coding import Code

from dicom_ai_node.answers import ModelIdentity
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.encoding import Encoding, tag_of
from dicom_ai_node.dicom.marks import PRIVATE_CREATOR, PRIVATE_GROUP, software_version
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.report import codes
from dicom_ai_node.report.copies.fill import AGE, BODY_PART, FILLED, SEX, Fill
from dicom_ai_node.report.copies.source import SourceFile
from dicom_ai_node.report.words import plain

FILLS, MODEL_NAME, MODEL_SHA256, SOFTWARE = 0x01, 0x02, 0x03, 0x04
KEYWORD, VALUE, SOURCE, LOW, HIGH, PROBABILITY, RULES, ACTOR = range(0x10, 0x18)
"""Elements of the private block; docs/fill.md lists them."""


_CONFORMING: Final[Mapping[int, tuple[str, re.Pattern[bytes]]]] = {
    tag_of(keyword): (vr, re.compile(pattern))
    for keyword, vr, pattern in (
        (AGE, "AS", rb"([0-9]{3}[DWMY])?"),
        (SEX, "CS", rb"[A-Z0-9_ ]{0,16}"),
        (BODY_PART, "CS", rb"[A-Z0-9_ ]{0,16}"),
        ("ImageType", "CS", rb"[A-Z0-9_ ]{0,16}(\\[A-Z0-9_ ]{0,16})*"),
        ("InstanceCreationDate", "DA", rb"([0-9]{8})?"),
        ("InstanceCreationTime", "TM", rb"([0-9]{2,6}(\.[0-9]{1,6})?)? *"),
        ("SeriesNumber", "IS", rb" *[+-]?[0-9]{0,10} *"),
        ("SeriesDescription", "LO", rb"[^\0]*"),
        ("DerivationDescription", "ST", rb"[^\0]*"),
    )
}
"""VR, and what its values look like (PS3.5 6.2), of the attributes that may be replaced."""
_FILLED = frozenset(map(tag_of, FILLED))
_ANYTHING = re.compile(rb"(?s:.*)")


def original_attributes(
    source: SourceFile, changed: Iterable[int], fills: Sequence[Fill], *, at: datetime
) -> dict[int, bytes]:
    """Return Original Attributes Sequence (PS3.3 C.12.1.1.9) with what is ``changed`` as it was.

    Of attributes that are absent, only those that are filled in are named. The reason is CORRECT
    where a value is replaced, COERCE where there was none.
    """
    conforming: dict[int, tuple[str, bytes]] = {}
    nonconforming: dict[int, bytes] = {}
    for tag in changed:
        part = source.part(tag)
        vr, pattern = _CONFORMING.get(tag, ("", _ANYTHING))
        value = source.data[part.value : part.value_end] if part else b""
        if not pattern.fullmatch(value):
            nonconforming[tag] = value
            conforming[tag] = vr, b""
        elif part is not None:
            conforming[tag] = part.vr, value
        elif tag in _FILLED:
            conforming[tag] = vr, b""
    replaced = any(source.value(fill.keyword) for fill in fills)
    texts = {
        "AttributeModificationDateTime": date_time(at),
        "ModifyingSystem": software_version()[:64],
        "SourceOfPreviousValues": "",
        "ReasonForTheAttributeModification": "CORRECT" if replaced else "COERCE",
    }

    def item(encoding: Encoding) -> bytes:
        values = {
            tag: encoding.header(tag, vr, len(value)) + value
            for tag, (vr, value) in conforming.items()
        }
        modified = tag_of("ModifiedAttributesSequence")
        elements = {modified: encoding.sequence(modified, [encoding.item(values)])}
        if nonconforming:
            tag = tag_of("NonconformingModifiedAttributesSequence")
            those = sorted(nonconforming.items())
            elements[tag] = encoding.sequence(
                tag, [_nonconforming(encoding, *one) for one in those]
            )
        return encoding.item(elements | encoding.texts(texts))

    return source.appended("OriginalAttributesSequence", item)


def contributing_equipment(
    source: SourceFile, fills: Sequence[Fill], *, at: datetime, settings: ReportSettings
) -> dict[int, bytes]:
    """Return Contributing Equipment Sequence with this program (PS3.3 C.12.1.1.5)."""
    texts = {
        "Manufacturer": settings.manufacturer,
        "ManufacturerModelName": settings.model_name,
        "DeviceSerialNumber": settings.device_serial_number,
        "SoftwareVersions": software_version(),
        "ContributionDateTime": date_time(at),
        "ContributionDescription": sentences(fills),
    }
    if settings.institution_name:
        texts["InstitutionName"] = settings.institution_name
    purpose = codes.MODIFYING_EQUIPMENT
    return source.appended("ContributingEquipmentSequence", _for_purpose(purpose, texts))


def source_image(source: SourceFile) -> dict[int, bytes]:
    """Return Source Image Sequence with the source (PS3.3 C.7.6.1.1.4)."""
    texts = {
        "ReferencedSOPClassUID": source.uid("SOPClassUID"),
        "ReferencedSOPInstanceUID": source.uid("SOPInstanceUID"),
    }
    return source.appended("SourceImageSequence", _for_purpose(codes.SOURCE_IMAGE, texts))


def private_block(
    source: SourceFile, fills: Sequence[Fill], model: ModelIdentity | None
) -> dict[int, bytes]:
    """Return the elements of a private block that is still free in the data set (PS3.5 7.8.1).

    Raises UnreadableInstance: none is free.
    """
    encoding, taken = source.encoding, {part.tag for part in source.parts}
    blocks = range(PRIVATE_GROUP << 16 | 0x10, (PRIVATE_GROUP << 16 | 0xFF) + 1)
    creator = next((tag for tag in blocks if tag not in taken), None)
    if creator is None:
        raise UnreadableInstance(f"group {PRIVATE_GROUP:04X} has no private block left")
    first = PRIVATE_GROUP << 16 | (creator & 0xFF) << 8
    reserved = {creator: encoding.element(creator, "LO", PRIVATE_CREATOR.encode())}
    items = [encoding.item(reserved | _private_fill(encoding, first, fill)) for fill in fills]
    elements = {first | FILLS: encoding.sequence(first | FILLS, items)}
    values = [(SOFTWARE, "LO", software_version()[:64])]
    if model is not None:
        values += [
            (MODEL_NAME, "LO", plain(f"{model.name} {model.version}")[:64]),
            (MODEL_SHA256, "LO", model.sha256[:64]),
        ]
    return reserved | elements | _private(encoding, first, values)


def date_time(at: datetime) -> str:
    """Return a value of VR DT, in UTC and saying so where ``at`` knows its time zone."""
    if at.tzinfo is None:
        return at.strftime("%Y%m%d%H%M%S")
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")


def sentences(fills: Sequence[Fill]) -> str:
    """Return what is filled and from what."""
    return "; ".join(fill.sentence for fill in fills)


def _private_fill(encoding: Encoding, first: int, fill: Fill) -> dict[int, bytes]:
    numbers = [(LOW, fill.low), (HIGH, fill.high), (PROBABILITY, fill.probability)]
    values = [
        (KEYWORD, "LO", fill.keyword),
        (VALUE, "LO", fill.value),
        (SOURCE, "CS", fill.source.upper()),
        *((element, "DS", f"{value:.6g}") for element, value in numbers if value is not None),
    ]
    if fill.rules:
        values.append((RULES, "LO", "\\".join(plain(rule)[:64] for rule in fill.rules)))
    if fill.actor:
        values.append((ACTOR, "LO", plain(fill.actor)[:64]))
    return _private(encoding, first, values)


def _private(
    encoding: Encoding, first: int, values: Sequence[tuple[int, str, str]]
) -> dict[int, bytes]:
    return {
        first | element: encoding.element(first | element, vr, value.encode("ascii"))
        for element, vr, value in values
    }


def _nonconforming(encoding: Encoding, tag: int, value: bytes) -> bytes:
    held = tag_of("NonconformingDataElementValue")
    return encoding.item(
        {
            tag_of("SelectorAttribute"): encoding.pointer("SelectorAttribute", tag),
            held: encoding.element(held, "OB", value),
        }
    )


def _for_purpose(code: Code, texts: Mapping[str, str]) -> Callable[[Encoding], bytes]:
    """Return what makes an item of texts and a purpose of reference in an encoding."""
    purpose = {
        "CodeValue": code.value,
        "CodingSchemeDesignator": code.scheme_designator,
        "CodeMeaning": code.meaning,
    }
    tag = tag_of("PurposeOfReferenceCodeSequence")

    def item(encoding: Encoding) -> bytes:
        coded = encoding.sequence(tag, [encoding.item(encoding.texts(purpose))])
        return encoding.item(encoding.texts(texts) | {tag: coded})

    return item
