"""Previews: what would go to a destination, and that nothing does."""

import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_ai_node.errors import FillError
from dicom_ai_node.fill.preview import FillPreview, preview
from dicom_ai_node.store import proposals
from dicom_ai_node.study.proposals import ProposalState
from tests.builders.filling import AGE, GUESSED_AGE, GUESSED_SEX, Ward, make, ward
from tests.builders.forwarding import Gate, gate


def shown(
    box: Ward, uid: str, name: str = "pacs", keyword: str = "PatientAge"
) -> list[FillPreview]:
    asked = proposals.show(box.db, box.proposal(uid, keyword).id)
    assert asked is not None
    return list(preview(box.config, box.db, box.spool, asked, name, make=make, now=time.time()))


def nothing_was_done(box: Ward) -> bool:
    return (box.copies(), box.rows()) == ([], [])


def test_a_preview_keeps_and_decides_nothing(tmp_path: Path) -> None:
    with ward(tmp_path, pacs={"fill": "inferred"}, other={}) as box:
        uid = box.add_image("one")
        box.analyse(GUESSED_AGE, GUESSED_SEX)
        (one,) = shown(box, uid)
        assert one.original == next(box.spool.instances.glob("*.dcm")).read_bytes()
        assert (one.kind, b"063Y" in one.content) == ("copy", True)
        with pytest.raises(FillError, match="other does not take it"):
            shown(box, uid, "other")
        assert nothing_was_done(box)
        assert box.proposal(uid).state is ProposalState.OPEN


def test_a_gateway_shows_the_very_file_that_it_then_sends(tmp_path: Path) -> None:
    with gate(tmp_path) as box:
        uid = box.add_image("one")
        box.analyse(AGE, auto_accept=frozenset({AGE}))
        (one,) = shown(box, uid)
        assert (one.kind, one.note, nothing_was_done(box)) == ("coerced", "", True)
        assert box.sweep() == 1
        (sent,) = box.sent()
        assert sent.sop_instance_uid == one.sop_instance_uid
        assert box.spool.path(sent.path).read_bytes() == one.content
        (again,) = shown(box, uid)
        assert again.note == "it was forwarded before, and goes no second time"


def test_what_is_open_is_shown_as_if_a_person_had_accepted_it(tmp_path: Path) -> None:
    with gate(tmp_path) as box:
        uid = box.add_image("one", PatientAge="062Y")
        box.analyse(AGE)
        (one,) = shown(box, uid)
        assert dcmread(BytesIO(one.content)).PatientAge == "063Y"


def _valid(box: Gate) -> None:
    box.analysed(PatientAge="062Y")


def _came_back(box: Gate) -> None:
    box.analysed(calling_ae="PACS")


def _damaged(box: Gate) -> None:
    box.analysed()
    (path,) = box.spool.instances.glob("*.dcm")
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("prepare", "note"),
    [
        (_valid, "only a person replaces"),
        (_came_back, "has it already"),
        (_damaged, "ends within its header, at (7FE0,0010) PixelData"),
    ],
)
def test_an_image_that_goes_as_it_was_received_is_shown_with_the_reason(
    tmp_path: Path, prepare: Any, note: str
) -> None:
    with gate(tmp_path) as box:
        prepare(box)
        (one,) = shown(box, proposals.find(box.db)[0].study_instance_uid)
        assert (one.kind, one.content == one.original) == ("received", True)
        assert note in one.note


@pytest.mark.parametrize("proposed", [GUESSED_AGE, GUESSED_SEX])
def test_a_gateway_refuses_what_is_inferred_or_of_the_sex(tmp_path: Path, proposed: Any) -> None:
    with gate(tmp_path) as box:
        uid = box.add_image("one")
        box.analyse(proposed)
        with pytest.raises(FillError, match="forward = 'coerced'"):
            shown(box, uid, keyword=proposed.keyword)


def test_a_destination_of_copies_and_of_images_shows_both(tmp_path: Path) -> None:
    with gate(tmp_path, fill="deterministic") as box:
        uid = box.add_image("one")
        box.analyse(AGE)
        assert [one.kind for one in shown(box, uid)] == ["copy", "coerced"]
