"""Whether what stands in Modality or ModalitiesInStudy speaks for a radiograph."""

import pytest

from dicom_ai_node.audit.sources.dicom_json import texts_of
from dicom_ai_node.audit.sources.selection import names_wanted

WANTED = ("CR", "DX")
KEPT = [
    *("CR", "cr", "Dx", " CR ", "CR\0", "\0cr\0", "CR\u00a0", "\u3000CR", "\uff23\uff32"),
    *("CR/SR", "SR/CR", "CR,SR", "sr;cr", "CR\\SR", "CR SR", "CT\tDX", "CT|CR", "CR+SR"),
    *("DR", "dr", "RG", "XR", "RX"),
]
UNREADABLE = ["", " ", "\0", "?", "??", "-", "\ufffd", "XRAY", "CHEST", "CT/??", "7", "CT\\XYZ"]
OTHERS = ["CT", "ct", "CT\0", "MR/SR", "SR", "CT\\SR", "MG", "US, OT", "KO;PR", "RF", "PX"]


@pytest.mark.parametrize("text", KEPT)
def test_a_radiograph_is_one_however_it_is_written(text: str) -> None:
    assert names_wanted([text], WANTED) is True
    assert names_wanted(["SR", text], WANTED) is True
    assert names_wanted(text.split("\\"), WANTED) is True


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_cannot_be_read_does_not_speak_against_a_study(text: str) -> None:
    assert names_wanted([text], WANTED) is None


@pytest.mark.parametrize("text", OTHERS)
def test_what_is_surely_something_else_does(text: str) -> None:
    assert names_wanted([text], WANTED) is False


def test_nothing_said_says_nothing() -> None:
    assert names_wanted([], WANTED) is None


def test_other_modalities_may_be_asked_for() -> None:
    assert names_wanted(["mg/sr"], ("MG",)) is True
    assert names_wanted(["CR"], ("MG",)) is False
    assert names_wanted(["DR"], ("MG",)) is False
    assert names_wanted(["cr"], ("DX",)) is False
    assert names_wanted(["dr"], ("DX",)) is True
    assert names_wanted(["mammo_3d "], ("MAMMO_3D",)) is True


@pytest.mark.parametrize(
    ("element", "values"),
    [
        ({"vr": "CS", "Value": ["CR", "SR"]}, ["CR", "SR"]),
        ({"vr": "CS", "Value": "CR"}, ["CR"]),
        ({"vr": "CS", "Value": ["CT", None]}, ["CT"]),
        ({"vr": "CS", "InlineBinary": "Y3I="}, ["cr"]),
        ({"vr": "CS"}, []),
        ({"vr": "CS", "Value": []}, []),
        ({"vr": "CS", "Value": ["CT", 7]}, []),
        ({"vr": "CS", "Value": [["CT"]]}, []),
        ({"vr": "PN", "Value": [{"Alphabetic": "CT"}]}, []),
        ({"vr": "CS", "BulkDataURI": "http://elsewhere/"}, []),
        ("CT", []),
        (None, []),
    ],
)
def test_only_text_of_json_speaks(element: object, values: list[str]) -> None:
    assert texts_of({"00080061": element}, 0x00080061) == values
