"""What an audit found as files that open without a network: HTML, CSV, JSON.

They name studies by StudyInstanceUID and patients by a hash, never by name; the CSV files also by
AccessionNumber or PatientID where the site allows it and it is asked for. A hash of a short number
can be found by trying all numbers: it is a pseudonym, and the files are still data of patients.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from dicom_ai_node.audit.conclude import AuditReport
from dicom_ai_node.audit.report.page import page
from dicom_ai_node.audit.report.tables import (
    NONE,
    Identifiers,
    patients_table,
    rates_table,
    report_json,
    studies_table,
)
from dicom_ai_node.output import make_private, write_private

FILES: Mapping[str, Callable[[AuditReport, Identifiers], str]] = {
    "report.html": lambda report, _: page(report),
    "studies.csv": studies_table,
    "patients.csv": patients_table,
    "rates.csv": lambda report, _: rates_table(report),
    "report.json": lambda report, _: report_json(report),
}
"""File name -> its content."""


def write_report(report: AuditReport, out: Path, *, identifiers: Identifiers = NONE) -> list[Path]:
    """Write ``report`` into the folder ``out``, which is made, and return the files.

    Earlier files of the same names are replaced, each at once; they are for this account alone.
    ``identifiers`` are for the CSV files only.
    """
    make_private(out)
    for name, content in FILES.items():
        write_private(out / name, content(report, identifiers).encode())
    return [out / name for name in FILES]
