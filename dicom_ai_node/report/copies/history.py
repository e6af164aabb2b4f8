"""What a copy says of itself: previous values, equipment, and a private block for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydicom.sr.coding import Code

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.encoding import Encoding, Part, tag_of
from dicom_ai_node.dicom.marks import PRIVATE_CREATOR, PRIVATE_GROUP, software_version
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.report import codes
from dicom_ai_node.report.copies.fill import Fill
from dicom_ai_node.report.text import plain
from dicom_ai_node.types import ModelIdentity

_FIRST_BLOCK, _LAST_BLOCK = 0x10, 0xFF

FILLS, MODEL_NAME, MODEL_SHA256, SOFTWARE = 0x01, 0x02, 0x03, 0x04
KEYWORD, VALUE, SOURCE, LOW, HIGH, PROBABILITY, RULES, ACTOR = range(0x10, 0x18)
"""Elements of the private block; docs/fill.md lists them."""


@dataclass(frozen=True, slots=True)
class Previous:
    """Attributes as they were, by tag."""

    conforming: Mapping[int, tuple[str, bytes]]
    """VR and value; no value where there was none, or where it was not one of its VR."""
    nonconforming: Mapping[int, bytes]
    """The values of those that were not."""


def original_attributes(
    encoding: Encoding, previous: Previous, *, at: datetime, reason: str
) -> bytes:
    """Return an item of Original Attributes Sequence (PS3.3 C.12.1.1.9)."""
    modified = tag_of("ModifiedAttributesSequence")
    values = {
        tag: encoding.header(tag, vr, len(value)) + value
        for tag, (vr, value) in previous.conforming.items()
    }
    elements = {modified: encoding.sequence(modified, [encoding.item(values)])}
    if previous.nonconforming:
        tag = tag_of("NonconformingModifiedAttributesSequence")
        those = sorted(previous.nonconforming.items())
        elements[tag] = encoding.sequence(tag, [_nonconforming(encoding, *one) for one in those])
    texts = {
        "AttributeModificationDateTime": ("DT", date_time(at)),
        "ModifyingSystem": ("LO", software_version()[:64]),
        "SourceOfPreviousValues": ("LO", ""),
        "ReasonForTheAttributeModification": ("CS", reason),
    }
    return encoding.item(elements | _texts(encoding, texts))


def contributing_equipment(
    encoding: Encoding, settings: ReportSettings, fills: Sequence[Fill], *, at: datetime
) -> bytes:
    """Return an item of Contributing Equipment Sequence (PS3.3 C.12.1.1.5)."""
    texts = {
        "Manufacturer": ("LO", settings.manufacturer),
        "ManufacturerModelName": ("LO", settings.model_name),
        "DeviceSerialNumber": ("LO", settings.device_serial_number),
        "SoftwareVersions": ("LO", software_version()),
        "ContributionDateTime": ("DT", date_time(at)),
        "ContributionDescription": ("ST", sentences(fills)),
    }
    if settings.institution_name:
        texts["InstitutionName"] = ("LO", settings.institution_name)
    purpose = _purpose(encoding, codes.MODIFYING_EQUIPMENT)
    return encoding.item(_texts(encoding, texts) | purpose)


def source_image(encoding: Encoding, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Return an item of Source Image Sequence (PS3.3 C.7.6.1.1.4)."""
    texts = {
        "ReferencedSOPClassUID": ("UI", sop_class_uid),
        "ReferencedSOPInstanceUID": ("UI", sop_instance_uid),
    }
    return encoding.item(_texts(encoding, texts) | _purpose(encoding, codes.SOURCE_IMAGE))


def private_block(
    encoding: Encoding, parts: Sequence[Part], fills: Sequence[Fill], model: ModelIdentity | None
) -> dict[int, bytes]:
    """Return the elements of a private block that is still free in the data set (PS3.5 7.8.1).

    Raises UnreadableInstance: none is free.
    """
    taken = {part.tag for part in parts}
    blocks = range(_FIRST_BLOCK, _LAST_BLOCK + 1)
    free = [number for number in blocks if PRIVATE_GROUP << 16 | number not in taken]
    if not free:
        raise UnreadableInstance(f"group {PRIVATE_GROUP:04X} has no private block left")
    block = free[0]
    first = PRIVATE_GROUP << 16 | block << 8
    creator = PRIVATE_GROUP << 16 | block
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


def _purpose(encoding: Encoding, code: Code) -> dict[int, bytes]:
    texts = {
        "CodeValue": ("SH", code.value),
        "CodingSchemeDesignator": ("SH", code.scheme_designator),
        "CodeMeaning": ("LO", code.meaning),
    }
    tag = tag_of("PurposeOfReferenceCodeSequence")
    return {tag: encoding.sequence(tag, [encoding.item(_texts(encoding, texts))])}


def _texts(encoding: Encoding, texts: Mapping[str, tuple[str, str]]) -> dict[int, bytes]:
    return {
        tag_of(keyword): encoding.text(keyword, vr, value) for keyword, (vr, value) in texts.items()
    }
