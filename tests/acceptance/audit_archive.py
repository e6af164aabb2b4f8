"""The generated archive as files, and the rules held against its answer key.

``python -m tests.acceptance.audit_archive FOLDER`` writes the files and prints recall and precision
of every rule over what they say. G8 needs a listing that says something else than the files, which
a folder has not; it and everything else is in tests/unit/test_audit_archive.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from dicom_ai_node import pixels
from dicom_ai_node.archive.member import Collected, StudyFacts
from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.conclude import AuditReport
from dicom_ai_node.audit.report import write_report
from dicom_ai_node.rules import TextHeader
from tests.builders.archive import TODAY, generated, write
from tests.builders.scores import concluded, fired, scores, table, wrong

WITHOUT_LISTING = frozenset({"G6", "G7", "G8"})


def audit_files(paths: Sequence[Path]) -> AuditReport:
    """What an audit says of these files."""
    studies: dict[str, list[TextHeader]] = {}
    for path in paths:
        header = TextHeader.from_dataset(pixels.read_header(path))
        studies.setdefault(header.clean("StudyInstanceUID"), []).append(header)
    collected = [Collected(uid, StudyFacts(uid, tuple(own))) for uid, own in studies.items()]
    return concluded(AuditSpec(source="folder:archive", today=TODAY), collected)


def main(folder: Path) -> int:
    studies = generated()
    report = audit_files(write(studies, folder / "files"))
    rows = scores(studies, fired(report), without=WITHOUT_LISTING)
    print(table(rows))
    print(*write_report(report, folder / "report"), sep="\n")
    return int(bool(wrong(rows)))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
