"""CT and MR through a whole node: received, assembled, analysed and reported by route alone."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless

from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.demo.validators import dciodvfy
from dicom_ai_node.dicom.marks import is_own_report
from dicom_ai_node.study import State
from tests.acceptance.harness import Node, command_line, noise, send
from tests.builders.bundles import CT_AND_MR, invented_bundle, regions
from tests.builders.series import ct_series, enhanced

SAMPLE = 6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return invented_bundle(
        tmp_path_factory.mktemp("bundles") / "region",
        [regions("BRAIN", "CHEST", "KNEE")],
        accepts=CT_AND_MR | {"sample": SAMPLE},
    )


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[EmbeddedPacs]:
    with EmbeddedPacs(tmp_path / "pacs", ae_title="PACS") as running:
        yield running


def shown(node: Node, uid: str) -> dict[str, Any]:
    code, out, err = command_line("show", uid, "--json", "-c", str(node.path))
    assert code == 0, err
    result: dict[str, Any] = json.loads(out)["result"]
    return result


def test_a_ct_an_enhanced_mr_and_a_film_go_in_and_reports_come_back(
    tmp_path: Path, pacs: EmbeddedPacs, bundle: Path
) -> None:
    ct = ct_series(40, study="ct")
    mr = enhanced(30, study="mr", Modality="MR", syntax=JPEGLSLossless, table="none", fragments=2)
    film = noise("film")
    with Node(
        tmp_path / "node",
        destinations={"pacs": ("PACS", pacs.port)},
        policy='analyse = "all"\nmin_body_part_certainty = 0.0',
        extra=f'[model]\nfurther = ["{bundle}"]',
    ) as node:
        assert set(send(node.port, [*ct, mr, film])) == {0x0000}
        rows = node.wait_settled(3)
        assert {row.state for row in rows} == {State.DELIVERED}
        of_ct, of_mr = (shown(node, str(image.StudyInstanceUID)) for image in (ct[0], mr))
        lines = [json.loads(line) for line in node.log.read_text().splitlines()]
    assert (of_ct["offered"], len(of_ct["images"])) == (40, SAMPLE)
    assert (of_mr["offered"], len(of_mr["images"])) == (30, 1)
    for result in (of_ct, of_mr):
        assert (result["model"]["name"], result["outcome"]) == ("region", "estimated")
        assert result["region"]["covered"]
    loaded = [line["model"] for line in lines if line["event"] == "model_loaded"]
    assert loaded == ["chest-age-sex", "region"], "the second one when the first CT came"
    reports = [path for path in pacs.instances().values() if is_own_report(dcmread(path))]
    assert len(reports) == 3
    (report,) = (p for p in reports if dcmread(p).StudyInstanceUID == ct[0].StudyInstanceUID)
    beside = Path(sys.executable).with_name("dciodvfy")
    if beside.exists() or shutil.which("dciodvfy"):
        assert dciodvfy(report) == []
    evidence = dcmread(report).CurrentRequestedProcedureEvidenceSequence
    assert len(evidence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence) == 40


def test_a_site_of_chest_radiographs_takes_no_sections(
    tmp_path: Path, pacs: EmbeddedPacs, bundle: Path
) -> None:
    """Until its configuration names a bundle for them."""
    ct = ct_series(3, study="ct")
    folder, destinations = tmp_path / "node", {"pacs": ("PACS", pacs.port)}
    with Node(folder, destinations=destinations) as node:
        assert set(send(node.port, ct)) == {None}, "the presentation context is not accepted"
        assert set(send(node.port, [noise("film")])) == {0x0000}
        node.wait_settled(1)
    shutil.rmtree(folder)
    with Node(folder, destinations=destinations, extra=f'[model]\nfurther = ["{bundle}"]') as node:
        assert set(send(node.port, ct)) == {0x0000}
        node.wait_settled(1)
