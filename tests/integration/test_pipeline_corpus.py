"""Every real DICOM file beside the checkout ends in a stated outcome of a node with two bundles."""

from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from dicom_ai_node import pixels
from dicom_ai_node.answers import ImageRef, ImageResult, Outcome
from dicom_ai_node.config import parse_config
from dicom_ai_node.config.bundles import reporting_bundles
from dicom_ai_node.dicom.classes import SECTIONS
from dicom_ai_node.dicom.values import sop_class_of, text_of
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.pipeline import Pipeline
from tests.builders.bundles import CT_AND_MR, invented_bundle, regions


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The shipped bundle, and an invented one that looks at single sections of CT and MR."""
    folder = invented_bundle(
        tmp_path_factory.mktemp("bundles") / "region",
        [regions("BRAIN", "CHEST", "KNEE")],
        accepts=CT_AND_MR | {"sample": 8},
    )
    policy = {"analyse": "all", "min_body_part_certainty": 0}
    config = parse_config({"model": {"further": [str(folder)], "device": "cpu"}, "policy": policy})
    return Pipeline.of(config, reporting_bundles(config.model))


def results(pipeline: Pipeline, path: Path) -> tuple[str, list[tuple[str, ImageResult]]]:
    """Return the SOP class of a file, and what each bundle says of it."""
    header = pixels.read_header(path)
    image = ImageRef(
        sop_class_of(header),
        text_of(header, "SOPInstanceUID"),
        text_of(header, "SeriesInstanceUID"),
    )
    ready = pipeline.prepare("1.2.3", [(image, path)], priors=lambda _: (), today=date(2026, 6, 1))
    pipeline.predict([ready])
    said = pipeline.conclude(ready)
    names = [part.bundle.manifest.name for part in ready.parts]
    return image.sop_class_uid, [
        (name, one) for name, part in zip(names, said.parts, strict=True) for one in part.images
    ]


def test_every_file_has_a_stated_outcome(pipeline: Pipeline, shared_data: Path) -> None:
    folder = shared_data / "dicom" / "other"
    if not folder.is_dir():
        pytest.skip("no ../shared/data/dicom beside this checkout")
    counts: Counter[tuple[str, str, str]] = Counter()
    unreadable = 0
    for path in sorted(folder.glob("*.dcm")):
        try:
            sop_class, found = results(pipeline, path)
        except UnreadableInstance:
            unreadable += 1
            continue
        assert found, path.name
        for name, one in found:
            is_section = sop_class in SECTIONS
            assert (name == "region") == is_section, path.name
            assert (one.reason is None) == (one.outcome is Outcome.ESTIMATED)
            code = one.reason.code if one.reason else ""
            counts[name, str(one.outcome), code] += 1
            if is_section:
                assert "radiograph" not in (one.reason.text if one.reason else "")
    for (name, outcome, code), count in sorted(counts.items()):
        print(f"{name:14} {outcome:10} {code:26} {count:4}")
    sections = {code: n for (name, _, code), n in counts.items() if name == "region"}
    assert set(sections) <= {"", "localiser", "reformat", "computed", "blank", "no_pixels"}
    assert sections[""] > 50
    # fo-dicom's GH364 has a delimiter that ends nothing, so that its header cannot be followed.
    assert unreadable <= 1
