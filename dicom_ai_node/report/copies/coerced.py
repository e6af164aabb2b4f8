"""Mode D: the same instance with PatientAge, on its way to the archive that has not seen it yet."""

from datetime import datetime

from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.errors import FillError
from dicom_ai_node.report.copies.fill import AGE, Fill, checked
from dicom_ai_node.report.copies.marks import original_attributes, private_block
from dicom_ai_node.report.copies.part10 import rebuilt
from dicom_ai_node.report.copies.source import filled, reason_for, source_of
from dicom_ai_node.report.copies.splice import appended, spliced
from dicom_ai_node.types import ModelIdentity, ReportFile

_ORIGINAL_ATTRIBUTES = tag_of("OriginalAttributesSequence")


def stated_age(content: bytes) -> str:
    """Return PatientAge as it stands in a file, '' where there is none.

    Raises
    ------
    UnreadableInstance
        As :func:`coerced` does.
    """
    return source_of(content).value(AGE).decode("latin-1")


def coerced(
    content: bytes, fill: Fill, *, at: datetime, model: ModelIdentity | None = None
) -> ReportFile:
    """Return the instance with ``fill`` in it, under its own UIDs.

    Only for who stands between the modality and the archive: an archive that already has the
    instance would hold two versions under one UID.

    Parameters
    ----------
    content
        The file (PS3.10), in any transfer syntax. It is not transcoded.
    at
        When it was decided; the same arguments return the same bytes.
    model
        Which network inferred the value.

    Raises
    ------
    FillError
        The value is not one of PatientAge.
    UnreadableInstance
        No copy can be made of the file, see :func:`.source.source_of`.
    """
    if fill.keyword != AGE:
        raise FillError(f"{fill.keyword} is never filled in under the UID of the source")
    fills = checked([fill], allow_sex=False)
    source = source_of(content)
    encoding = source.encoding
    changes = filled(source, fills)
    previous = source.previous(changes)
    reason = reason_for(source, fills)
    changes[_ORIGINAL_ATTRIBUTES] = appended(
        source.file.data,
        source.part("OriginalAttributesSequence"),
        _ORIGINAL_ATTRIBUTES,
        lambda inner: original_attributes(inner, previous, at=at, reason=reason),
        encoding,
    )
    changes |= private_block(encoding, source.parts, fills, model)
    sop_class, sop_instance = source.uid("SOPClassUID"), source.uid("SOPInstanceUID")
    data = spliced(source.file.data, source.parts, changes, encoding)
    file = rebuilt(source.file, data, sop_class_uid=sop_class, sop_instance_uid=sop_instance)
    return ReportFile(sop_class, sop_instance, file)
