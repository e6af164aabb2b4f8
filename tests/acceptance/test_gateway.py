"""A node between modality and archive, with the archive away."""

from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.store import Database
from dicom_ai_node.store.queries import overview
from dicom_ai_node.study import State
from tests.acceptance.harness import Node, noise, send
from tests.builders.ports import free_port
from tests.builders.waiting import wait_until

IMAGES = 3


def waiting(node: Node) -> int:
    db = Database(node.config.storage.database)
    try:
        counts = overview(db, now=0.0).deliveries
    finally:
        db.close()
    return sum(count for (_, state), count in counts.items() if state in {"queued", "sending"})


@pytest.mark.parametrize("mode", ["received", "coerced"])
def test_with_the_archive_away_images_are_acknowledged_and_arrive_when_it_is_back(
    tmp_path: Path, mode: str
) -> None:
    pacs = EmbeddedPacs(tmp_path / "pacs", ae_title="PACS", port=free_port())
    node = Node(
        tmp_path / "node",
        destinations={"pacs": ("PACS", pacs.port)},
        extra='[fill]\nauto_accept = ["dates"]',
    )
    node.path.write_text(node.path.read_text() + f'forward = "{mode}"\nsend = []\n')
    born: dict[str, Any] = {"PatientBirthDate": "19600101", "StudyDate": "20260314"}
    images = [noise(f"away-{number}", **born) for number in range(IMAGES)]
    with node:
        for image in images:
            assert send(node.port, [image]) == [0x0000]
        node.kill("group")  # what was acknowledged is on the disk
        node.start()
        wait_until("the images to wait", lambda: waiting(node) == IMAGES)
        assert pacs.instances() == {}
        with pacs:
            wait_until("the images", lambda: len(pacs.instances()) == IMAGES)
            rows = node.wait_settled(IMAGES)
            wait_until("their acknowledgements", lambda: waiting(node) == 0)
            assert {row.state for row in rows} <= {State.DELIVERED, State.SKIPPED}
            assert set(pacs.received.values()) == {1}
            found = pacs.instances()
            for image in images:
                arrived = dcmread(found[str(image.SOPInstanceUID)])
                assert arrived.PixelData == image.PixelData
                assert arrived.get("PatientAge") == ("066Y" if mode == "coerced" else None)
