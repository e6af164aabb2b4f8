"""What an audit found as files that open without a network: HTML, CSV, JSON.

They name studies by StudyInstanceUID and patients by a hash, never by name or PatientID. A hash of
a short number can be found by trying all numbers: it is a pseudonym, and the files are still data
of patients.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from dicom_ai_node.audit.outcome import AuditReport
from dicom_ai_node.audit.report.page import page
from dicom_ai_node.audit.report.tables import patients_table, rates_table, studies_table
from dicom_ai_node.output import escaped_json, make_private, write_private

_JSON = TypeAdapter(AuditReport)


def _json(report: AuditReport) -> str:
    return escaped_json(_JSON.dump_json(report, indent=1).decode())


FORMATS: Mapping[str, Mapping[str, Callable[[AuditReport], str]]] = {
    "html": {"report.html": page},
    "csv": {
        "studies.csv": studies_table,
        "patients.csv": patients_table,
        "rates.csv": rates_table,
    },
    "json": {
        "report.json": lambda report: escaped_json(_JSON.dump_json(report, indent=1).decode())
    },
}
"""Format -> file name -> its content."""


def write_report(
    report: AuditReport, out: Path, formats: Sequence[str] = tuple(FORMATS)
) -> list[Path]:
    """Write ``report`` into the folder ``out``, which is made, and return the files.

    Earlier files of the same names are replaced, each at once. Raises ValueError for a format that
    is not in :data:`FORMATS`.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        raise ValueError(f"no such format: {', '.join(unknown)}; there are {', '.join(FORMATS)}")
    make_private(out)
    made = []
    for wanted in dict.fromkeys(formats):
        for name, content in FORMATS[wanted].items():
            write_private(out / name, content(report).encode())
            made.append(out / name)
    return made
