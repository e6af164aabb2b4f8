"""The table of transfer syntaxes, who decodes them, and what the conformance statement says."""

import re
from pathlib import Path

import pytest
from pydicom.uid import UID

from dicom_ai_node.demo.images import ENCODERS
from dicom_ai_node.dicom.classes import (
    ANALYSABLE,
    FILED_ONLY,
    RADIOGRAPHS,
    SECTIONS,
    VERIFICATION,
    storage_classes,
)
from dicom_ai_node.dicom.encoding import EXPLICIT
from dicom_ai_node.dicom.syntaxes import (
    ACCEPTED_SYNTAXES,
    NATIVE_SYNTAXES,
    OFFERED_SYNTAXES,
    TABLE,
    Lossy,
    TransferSyntax,
    encoding_of,
    is_deflated,
    is_lossy,
)

STATEMENT = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
PRIVATE = "1.2.840.113619.5.2"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_row_agrees_with_the_dictionary_of_the_standard(row: TransferSyntax) -> None:
    assert row.uid.is_transfer_syntax
    assert row.uid.is_implicit_VR == row.encoding.implicit
    assert row.uid.is_little_endian == row.encoding.little
    assert (row.uid in NATIVE_SYNTAXES) == (row.accepted and not row.uid.is_compressed)
    assert row.deflated == ("Deflate" in row.uid.name)


def test_every_accepted_syntax_is_tried_with_pixels() -> None:
    assert {*ACCEPTED_SYNTAXES} == {*NATIVE_SYNTAXES, *ENCODERS}


def test_what_is_offered_is_native_and_preferred() -> None:
    assert ACCEPTED_SYNTAXES[: len(OFFERED_SYNTAXES)] == OFFERED_SYNTAXES
    assert {*OFFERED_SYNTAXES} < {*NATIVE_SYNTAXES}


def test_what_may_lose_comes_last() -> None:
    order = [row.lossy is not Lossy.NO for row in TABLE]
    assert order == sorted(order)


def test_an_unknown_syntax_is_explicit_and_nothing_else_is_known_of_it() -> None:
    assert encoding_of(PRIVATE) == EXPLICIT
    assert not is_deflated(PRIVATE)
    assert not is_lossy(PRIVATE)


def rows_of(heading: str) -> list[list[str]]:
    """Return the cells of the table under the header line that begins so."""
    _, _, rest = STATEMENT.read_text().partition(f"| {heading} |")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_statement_lists_the_syntaxes_in_order_of_preference() -> None:
    accepted = [row for row in TABLE if row.accepted]
    assert rows_of("transfer syntax") == [
        [row.name, row.uid, row.coding, row.lossy] for row in accepted
    ]


def test_the_statement_lists_the_classes() -> None:
    listed = {
        UID(uid): treated
        for _, uids, treated in rows_of("SOP class")
        for uid in re.findall(r"[0-9.]{9,}", uids)
    }
    of_routes = {uid for uid, treated in listed.items() if "route" in treated}
    assert of_routes == SECTIONS
    listed = {uid: treated for uid, treated in listed.items() if uid not in of_routes}
    assert set(listed) == {VERIFICATION, *storage_classes()}
    assert {uid for uid, treated in listed.items() if treated == "kept"} == FILED_ONLY
    assert (
        {*RADIOGRAPHS}
        < {*ANALYSABLE}
        == {uid for uid, treated in listed.items() if treated not in ("kept", "C-ECHO")}
    )
