"""What archives of the field answer to C-FIND, C-GET and C-MOVE."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import OTHER_STUDY, Listed, Omission, Source
from dicom_ai_node.audit.sources.selection import DistinctStudies
from dicom_ai_node.errors import PeerRefused
from dicom_ai_node.pixels.lenient import quiet
from tests.acceptance.harness import noise
from tests.builders.pacs import Archive, running
from tests.integration.test_audit_pacs import ONE, SPEC, TODAY, TWO, images, moving, opened


@pytest.fixture
def archive() -> Iterator[Archive]:
    with running(Archive(images())) as started:
        yield started


@pytest.fixture
def source(archive: Archive) -> Iterator[Source]:
    one = opened(archive)
    yield one
    one.close()


def listing(source: Source, spec: AuditSpec = SPEC) -> tuple[dict[str, Listed], list[Omission]]:
    everything = DistinctStudies(None)
    found = [one for part in source.slices(spec) for one in everything.of(source.list(spec, part))]
    return {one.key: one for one in found}, sorted(everything.omitted().values())


def answer(**values: str) -> Dataset:
    """A match with values as they are, which pydicom would refuse or mend."""
    made = Dataset()
    for keyword, text in values.items():
        vr = "UI" if keyword.endswith("UID") else "DA" if keyword.endswith("Date") else "CS"
        content = text.encode("utf-8")
        content += b" " * (len(content) % 2)
        made[Tag(keyword)] = RawDataElement(Tag(keyword), vr, len(content), content, 0, True, True)
    return made


@pytest.mark.parametrize("modality", ["cr", "CR/SR", "CR,SR", "sr;dx", "CR\0", "CR\u00a0", "RG"])
def test_a_modality_is_kept_however_it_is_written(
    archive: Archive, source: Source, modality: str
) -> None:
    archive.faults.listed = [
        answer(StudyInstanceUID="1.2.3", StudyDate="20260314", ModalitiesInStudy=modality)
    ]
    found, omitted = listing(source)
    assert "1.2.3" in found
    assert omitted == []


def test_what_matches_unasked_is_counted(archive: Archive, source: Source) -> None:
    archive.faults.listed = [
        answer(StudyInstanceUID="1.2.3", StudyDate="20260314", ModalitiesInStudy="CT\\SR"),
        answer(StudyInstanceUID="1.2.4", StudyDate="20200101", ModalitiesInStudy="CR"),
        answer(StudyInstanceUID="1.2.5", ModalitiesInStudy="CR"),
    ]
    found, omitted = listing(source)
    assert "1.2.5" in found
    assert not {"1.2.3", "1.2.4"} & found.keys()
    assert omitted == [Omission.MODALITY, Omission.DATES]


def test_a_study_that_comes_in_two_rows_is_listed_for_either(
    archive: Archive, source: Source
) -> None:
    archive.faults.listed = [
        answer(StudyInstanceUID="1.2.3", StudyDate="20260314", ModalitiesInStudy="SR"),
        answer(StudyInstanceUID="1.2.3\0", StudyDate="20260314", ModalitiesInStudy="cr"),
    ]
    found, omitted = listing(source)
    assert "1.2.3" in found
    assert omitted == []


@pytest.mark.parametrize("padding", ["\0", " ", "\0\0 "])
def test_a_padded_uid_is_understood_at_every_level(
    archive: Archive, source: Source, tmp_path: Path, padding: str
) -> None:
    told = archive._answer

    def padded(dataset: Dataset, asked: Dataset) -> Dataset:
        made = told(dataset, asked)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            if keyword in made and made[keyword].value:
                made.update(answer(**{keyword: str(made[keyword].value) + padding}))
        return made

    archive._answer = padded  # type: ignore[method-assign]
    found, _ = listing(source)
    assert len(source.headers(found[ONE])) == 2
    fetched = source.fetch(found[ONE], tmp_path)
    assert (len(fetched.files), fetched.expected, fetched.faults) == (2, 2, {})


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC001, 0x0106])
def test_a_peer_that_does_not_match_modalities_is_asked_without(
    archive: Archive, source: Source, status: int
) -> None:
    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        if event.identifier.get("ModalitiesInStudy"):
            yield status, None
        else:
            yield from answered(event)

    answered, archive.find = archive.find, find  # type: ignore[method-assign]
    with running(archive):
        again = opened(archive)
        found, omitted = listing(again)
        again.close()
    assert found.keys() == {ONE, TWO}
    assert omitted == [Omission.MODALITY]


def test_all_studies_of_an_archive_that_matches_literally_can_be_listed(archive: Archive) -> None:
    with quiet():
        archive.datasets = [noise("lower", 1, Modality="cr"), noise("ct", 1, Modality="CT")]
        for match, listed, left_out in ((True, 0, []), (False, 1, [Omission.MODALITY])):
            source = opened(archive, match_modality=match)
            found, omitted = listing(source)
            source.close()
            assert (len(found), omitted) == (listed, left_out)


def test_a_peer_that_refuses_every_question_is_told_with_its_first_word(
    archive: Archive, source: Source
) -> None:
    archive.faults.status["find"] = 0xC000
    with pytest.raises(PeerRefused, match="0xC000"):
        listing(source)
    assert len(archive.queries) == 4


def test_a_peer_that_ends_long_answers_is_asked_for_less_at_once(archive: Archive) -> None:
    archive.datasets = [noise(f"s{n}", StudyDate=f"20{10 + n}0615") for n in range(10)]

    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for count, one in enumerate(answered(event)):
            if count == 3:
                yield 0xA700, None
                return
            yield one

    answered, archive.find = archive.find, find  # type: ignore[method-assign]
    with running(archive):
        source = opened(archive)
        found, _ = listing(source, AuditSpec(source="pacs:main", today=TODAY))
        source.close()
    assert len(found) == 10


@pytest.mark.parametrize("way", [opened, moving])
@pytest.mark.parametrize("levels", [("STUDY", "SERIES", "IMAGE"), ("STUDY",)])
def test_an_image_of_another_study_is_a_fault_and_none_of_the_study(
    archive: Archive, tmp_path: Path, way: Any, levels: tuple[str, ...]
) -> None:
    """Under a UID that was listed, where images are listed at all."""
    archive.datasets = [noise("one", 1), noise("one", 2)]
    archive.faults.levels = levels
    strange = noise("two", 1, SOPInstanceUID=archive.datasets[1].SOPInstanceUID)
    chosen = archive._chosen
    archive._chosen = lambda asked: [*chosen(asked)[:1], strange]  # type: ignore[method-assign]
    source = way(archive)
    fetched = source.fetch(listing(source)[0][ONE], tmp_path)
    source.close()
    assert [dcmread(path).StudyInstanceUID for path in fetched.files] == [ONE]
    assert fetched.expected == 2
    assert fetched.faults[str(strange.SOPInstanceUID)] == OTHER_STUDY


def test_series_of_other_studies_are_none_of_this_one(archive: Archive, source: Source) -> None:
    found, _ = listing(source)
    archive.faults.ignores_keys = True
    headers = source.headers(found[ONE])
    assert {one.clean("StudyInstanceUID") for one in headers} == {ONE}
    assert len(headers) == 2
