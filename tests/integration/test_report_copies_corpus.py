"""Copies of real files, read back by pydicom: nothing but the intended elements has changed."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.errors import FillError
from dicom_ai_node.report.copies import Fill, coerced, difference, filled_copy
from tests.builders.corpus import carried, completed, parsed

AT = datetime(2024, 3, 16, 8, 0, tzinfo=UTC)
AGE = Fill("PatientAge", "063Y", "inference", low=55.1, high=71.2, rules=("B3",))
SEX = Fill("PatientSex", "F", "inference", probability=0.99)
COERCED = {0x00101010, 0x04000561}
DERIVED = COERCED | {
    *(0x00080008, 0x00080012, 0x00080013, 0x00080014, 0x00080018, 0x0008103E, 0x00082111),
    *(0x00082112, 0x00100040, 0x00104000, 0x0018A001, 0x0020000E, 0x00200011),
}
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)


def test_every_file_that_pydicom_carries() -> None:
    counts = _round_trip(carried())
    print(counts)
    assert counts["derived"] >= 100
    assert counts["coerced"] >= counts["derived"]
    assert counts["pixels"] >= 80
    assert counts["syntaxes"] >= 10
    assert counts["no way"] <= 10


@pytest.mark.timeout(900)
def test_every_file_beside_the_checkout(shared_data: Path) -> None:
    counts = _round_trip(sorted((shared_data / "dicom").rglob("*.dcm")))
    print(counts)
    assert counts["derived"] >= 200
    assert counts["no way"] <= 5


def _round_trip(paths: Iterable[Path]) -> Counter[str]:
    counts: Counter[str] = Counter()
    syntaxes = set()
    for path in paths:
        content = completed(path)
        if content is None:
            counts["no way"] += 1
            continue
        before = parsed(content)
        syntaxes.add(before.file_meta.TransferSyntaxUID)
        copy = coerced(content, AGE, at=AT)
        _only_these(path, parsed(content), parsed(copy.content), COERCED)
        assert _top(content, copy.content) <= COERCED, path.name
        counts["coerced"] += 1
        counts["pixels"] += any(tag in before for tag in PIXELS)
        try:
            copy = filled_copy(
                content, [AGE, SEX], at=AT, settings=ReportSettings(), allow_sex=True
            )
        except FillError:
            continue
        _only_these(path, parsed(content), parsed(copy.content), DERIVED)
        assert _top(content, copy.content) <= DERIVED, path.name
        after = parsed(copy.content)
        assert (after.PatientAge, after.PatientSex) == ("063Y", "F"), path.name
        assert after.SOPInstanceUID == copy.sop_instance_uid
        counts["derived"] += 1
    counts["syntaxes"] = len(syntaxes)
    return counts


def _only_these(path: Path, before: Dataset, after: Dataset, intended: set[int]) -> None:
    """Hold the elements against each other as pydicom has them: raw, but for parsed sequences."""
    groups = {tag >> 16 for tag in intended}
    for tag in before.keys() | after.keys():
        if tag in intended or tag.group == 0x4149 or (tag.element < 2 and tag.group in groups):
            continue
        old, new = before.get_item(tag), after.get_item(tag)
        assert old is not None, (path.name, tag)
        assert new is not None, (path.name, tag)
        assert (old.VR, old.value) == (new.VR, new.value), (path.name, tag)


def _top(before: bytes, after: bytes) -> set[int]:
    """Tags of the top level in which two files differ, beside meta, lengths and our own block."""
    tags = {int(change.path[1:5] + change.path[6:10], 16) for change in difference(before, after)}
    return {tag for tag in tags if tag >> 16 not in (0x0002, 0x4149) and tag & 0xFFFF > 1}
