"""Real DICOM files: those that pydicom carries, and those beside the checkout."""

import warnings
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.errors import InvalidDicomError

from dicom_ai_node.dicom.encoding import Encoding
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.report.copies.source import elements_of, opened, spliced
from tests.builders.dicom_bytes import UIDS, Syntax, dicom_file

CARRIED = Path(pydicom.__file__).parent / "data"
_NO_DICOM = {".txt", ".json", ".icc", ".gz", ".dump", ".py", ".pyc", ".csv"}


def carried() -> list[Path]:
    """The files of pydicom's package: no network, unlike ``get_testdata_files``."""
    folders = (CARRIED / "test_files", CARRIED / "charset_files")
    return [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in _NO_DICOM and "README" not in path.name
    ]


def parsed(content: bytes) -> Dataset:
    """What pydicom reads, whatever it thinks of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(BytesIO(content), force=True)


def completed(path: Path) -> bytes | None:
    """A file with what filing asks for: a File Meta Information and four UIDs.

    None where there is no way to complete it.
    """
    content = path.read_bytes()
    try:
        if content[128:132] != b"DICM":
            implicit, little = parsed(content).original_encoding
            uid = "1.2.840.10008.1.2" + ("" if implicit else ".1" if little else ".2")
            content = dicom_file(content, Syntax(uid))
        file = opened(content)
        parts = elements_of(file.data, file.encoding)
    except (UnreadableInstance, InvalidDicomError):
        return None
    data = spliced(file.data, parts, _uids(content, file.encoding), file.encoding)
    if data == file.data:
        return content
    return dicom_file(data, Syntax(file.transfer_syntax_uid))


def _uids(content: bytes, encoding: Encoding) -> dict[int, bytes | None]:
    header = parsed(content)
    syntax = Syntax("", encoding.implicit, encoding.little)
    values = {tag: text_of(header, keyword_for_tag(tag)) for tag in UIDS}
    return {
        tag: syntax.element(tag, *UIDS[tag])
        for tag, value in values.items()
        if not value.replace(".", "").isdigit()
    }
