"""A PACS as a source of an audit: what is asked, and what comes of a peer that does it badly."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage
from structlog.testing import capture_logs

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import BrokenOff, Listed, Source
from dicom_ai_node.audit.sources.opening import open_source
from dicom_ai_node.audit.sources.selection import DistinctStudies
from dicom_ai_node.config import parse_config
from dicom_ai_node.demo.images import uid
from dicom_ai_node.errors import ConfigError, PeerRefused, PeerUnavailable
from tests.acceptance.harness import noise
from tests.builders.pacs import Archive, Faults, matches, running
from tests.builders.ports import free_port
from tests.builders.series import ct_series, enhanced

TODAY = date(2026, 4, 1)
SPEC = AuditSpec(
    source="pacs:main", first_date=date(2026, 3, 14), last_date=date(2026, 3, 15), today=TODAY
)


def images() -> list[Dataset]:
    ct = {"Modality": "CT", "SeriesInstanceUID": uid("demo", "one", "ct")}
    return [
        noise("one", 1, PatientAge="040Y"),
        noise("one", 2, PatientAge="040Y"),
        noise("one", 3, **ct),
        noise("two", 1, StudyDate="20260315"),
        noise("late", 1, StudyDate="20260316"),
        noise("ct", 1, Modality="CT"),
    ]


ONE, TWO = uid("demo", "one"), uid("demo", "two")
FIRST, SECOND = uid("demo", "one", 1), uid("demo", "one", 2)


@pytest.fixture
def archive() -> Iterator[Archive]:
    with running(Archive(images())) as started:
        yield started


def opened(archive: Archive, modalities: Any = ("CR", "DX"), **table: Any) -> Source:
    values = {"kind": "pacs", "host": "127.0.0.1", "port": archive.port, "ae_title": "PACS"}
    return open_source(
        "pacs:main",
        parse_config({"sources": {"main": values | {"timeout": 15.0} | table}}),
        modalities=modalities,
    )


@pytest.fixture
def source(archive: Archive) -> Iterator[Source]:
    one = opened(archive)
    yield one
    one.close()


def moving(archive: Archive, **table: Any) -> Source:
    port = free_port()
    archive.destinations["AUDIT"] = port
    move = {"retrieve": "move", "move_ae_title": "AUDIT", "move_port": port}
    return opened(archive, **move, move_bind="127.0.0.1", **table)


def listing(source: Source, spec: AuditSpec = SPEC) -> dict[str, Listed]:
    parts = [DistinctStudies(None).of(source.list(spec, part)) for part in source.slices(spec)]
    return {one.key: one for answers in parts for one in answers}


def test_days_are_asked_for_one_by_one_and_each_modality_by_itself(
    archive: Archive, source: Source
) -> None:
    found = listing(source)
    assert found.keys() == {ONE, TWO}
    assert found[ONE].instances == 3
    assert found[ONE].header.clean("PatientAge") == "040Y"
    asked = [(str(one.StudyDate), str(one.ModalitiesInStudy)) for one in archive.queries]
    days = ("20260314", "20260315")
    assert asked == [(day, modality) for day in days for modality in ("CR", "DX")]
    assert archive.associations == 1


def test_a_peer_that_ignores_what_is_asked_is_held_against_it(
    archive: Archive, source: Source
) -> None:
    archive.faults.ignores_keys = True
    assert listing(source).keys() == {ONE, TWO}


def test_a_peer_that_does_not_say_modalities_is_asked_for_series(
    archive: Archive, source: Source
) -> None:
    archive.faults.ignores_modalities = True
    assert listing(source).keys() == {ONE, TWO}
    archive.faults.levels = ("STUDY",)
    assert listing(source).keys() == {ONE, TWO, uid("demo", "ct")}, "who knows what it is"


def test_answers_without_uid_with_bad_dates_and_of_garbage_are_listed(
    archive: Archive, source: Source
) -> None:
    nameless, undated = Dataset(), Dataset()
    nameless.PatientID = "17"
    undated.StudyInstanceUID, undated.StudyDate = "1.2.3", ""
    archive.faults.listed = [nameless, undated]
    archive.faults.garbage = [b"\x10\x00\x40\x00\xff\xff\xff\x7fF", b"not a data set"]
    first = listing(source)
    assert first.keys() > {ONE, TWO, "1.2.3"}
    digests = [one for one in first.values() if one.key.startswith("listed:")]
    assert len(digests) == 3
    assert sorted(one.header["PatientID"].strip() for one in digests) == ["", "", "17"]
    assert all(len(key) <= 80 for key in first)
    assert listing(source).keys() == first.keys(), "the same keys when asked again"


def test_a_study_without_uid_has_its_listing_as_header_and_cannot_be_fetched(
    archive: Archive, source: Source, tmp_path: Path
) -> None:
    archive.faults.listed = [Dataset()]
    archive.faults.listed[0].PatientID = "17"
    found = [one for one in listing(source).values() if one.key.startswith("listed:")]
    (listed,) = found
    assert source.headers(listed) == (listed.header,)
    fetched = source.fetch(listed, tmp_path)
    assert fetched.faults == {"study": "listed without a usable StudyInstanceUID"}


@pytest.mark.parametrize(
    ("levels", "count"), [(("STUDY", "SERIES", "IMAGE"), 2), (("STUDY", "SERIES"), 1)]
)
def test_headers_hold_what_all_levels_say(
    archive: Archive, source: Source, levels: tuple[str, ...], count: int
) -> None:
    listed = listing(source)[ONE]
    archive.faults.levels = levels
    headers = source.headers(listed)
    assert len(headers) == count
    assert {one.clean("PatientAge") for one in headers} == {"040Y"}
    assert {one.clean("Modality") for one in headers} == {"CR"}
    assert {one.clean("Manufacturer") for one in headers} == {"dicom_ai_node"}


def test_headers_of_a_peer_that_knows_studies_alone(archive: Archive, source: Source) -> None:
    listed = listing(source)[ONE]
    archive.faults.levels = ("STUDY",)
    assert source.headers(listed) == (listed.header,)


@pytest.mark.parametrize("level", ["SERIES", "IMAGE"])
@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ({"level_status": 0xA700}, r"C-FIND with 0xA700 \(out of resources\)"),
        ({"level_status": 0xC001}, r"C-FIND with 0xC001 \(unable to process\)"),
        ({"level_status": 0xA900}, r"C-FIND with 0xA900"),
        ({"mute_levels": ()}, "the peer lists nothing at {} level of a study that it has"),
        ({"level_garbage": ()}, "the peer lists at {} level what is no data set"),
    ],
)
def test_one_study_that_is_refused_is_a_fault_of_that_study(
    archive: Archive,
    source: Source,
    tmp_path: Path,
    level: str,
    faults: dict[str, Any],
    says: str,
) -> None:
    found = listing(source)
    assert source.headers(found[TWO]), "the peer answers this level"
    for name, value in faults.items():
        setattr(archive.faults, name, {level: value} if value else (level,))
    for ask in (lambda: source.headers(found[ONE]), lambda: source.fetch(found[ONE], tmp_path)):
        with pytest.raises(PeerRefused, match=says.format(level)):
            ask()
    archive.faults = Faults()
    assert len(source.headers(found[ONE])) == 2, "asked again"


@pytest.mark.parametrize("level", ["SERIES", "IMAGE"])
@pytest.mark.parametrize("faults", [{"level_status": 0xC001}, {"mute_levels": ()}])
def test_a_level_that_no_study_is_answered_at_is_told_once_and_done_without(
    archive: Archive, source: Source, tmp_path: Path, level: str, faults: dict[str, Any]
) -> None:
    archive.datasets += [noise("three", 1), noise("four", 1)]
    found = listing(source)
    for name, value in faults.items():
        setattr(archive.faults, name, {level: value} if value else (level,))
    first, second, *others = found.values()
    with capture_logs() as logged:
        for one in (first, first, second):
            with pytest.raises(PeerRefused):
                source.headers(one)
        for one in (*others, first, second):
            assert {header.clean("PatientID") for header in source.headers(one)} == {
                one.header.clean("PatientID")
            }
    assert source.fetch(found[TWO], tmp_path).faults == {}
    (told,) = logged
    assert (told["source"], told["lacks"]) == ("pacs:main", f"C-FIND at {level} level")


@pytest.mark.parametrize("way", [opened, moving])
def test_images_of_wanted_modalities_come_whole(archive: Archive, tmp_path: Path, way: Any) -> None:
    source = way(archive)
    fetched = source.fetch(listing(source)[ONE], tmp_path)
    source.close()
    assert (fetched.expected, fetched.faults) == (2, {})
    truth = {one.SOPInstanceUID: one for one in images()}
    found = {path: dcmread(path) for path in fetched.files}
    assert {one.SOPInstanceUID for one in found.values()} == {FIRST, SECOND}
    assert all(one == truth[one.SOPInstanceUID] for one in found.values())


def test_sections_are_asked_for_where_ct_or_mr_is_audited(archive: Archive, tmp_path: Path) -> None:
    """Also from an archive that lists no images, and so names no classes."""
    archive.faults.levels = ("STUDY", "SERIES")
    archive.datasets = [
        *ct_series(2, study="body"),
        enhanced(3, study="body", StudyInstanceUID=uid("demo", "body"), Modality="MR"),
    ]
    for image in archive.datasets:
        image.StudyDate = "20260314"
    source = opened(archive, modalities=("CT", "MR"))
    (listed,) = listing(source, SPEC.model_copy(update={"modalities": ("CT", "MR")})).values()
    fetched = source.fetch(listed, tmp_path)
    source.close()
    assert fetched.faults == {}
    kinds = {str(dcmread(path).SOPClassUID) for path in fetched.files}
    assert kinds == {CTImageStorage, EnhancedMRImageStorage}


@pytest.mark.parametrize("way", [opened, moving])
def test_what_is_withheld_fails_or_comes_unasked_is_told(
    archive: Archive, tmp_path: Path, way: Any
) -> None:
    archive.datasets.append(noise("one", 4))
    archive.faults.withheld = {SECOND}
    archive.faults.failing = {uid("demo", "one", 4)}
    archive.faults.strangers = [noise("stranger")]
    source = way(archive, timeout=5.0)
    fetched = source.fetch(listing(source)[ONE], tmp_path)
    source.close()
    assert [dcmread(path).SOPInstanceUID for path in fetched.files] == [FIRST]
    assert fetched.expected == 3
    assert fetched.faults[SECOND] == "listed, and did not come"
    assert fetched.faults[uid("demo", "one", 4)] == "the peer failed to send it"
    assert fetched.faults[uid("demo", "stranger", 1)] == "came without being listed"
    assert "0xB000 (one or more instances could not be sent), 2 failed" in fetched.faults["study"]


def test_a_count_that_does_not_fit_is_told_where_images_are_not_listed(
    archive: Archive, source: Source, tmp_path: Path
) -> None:
    listed = listing(source)[TWO]
    archive.faults.levels = ("STUDY",)
    archive.faults.withheld = {uid("demo", "two", 1)}
    fetched = source.fetch(listed, tmp_path)
    assert (fetched.files, fetched.expected) == ((), 1)
    assert fetched.faults == {"study": "1 listed, 0 came"}


@pytest.mark.parametrize("what", ["find", "get"])
def test_a_peer_that_hangs_is_given_up(archive: Archive, tmp_path: Path, what: str) -> None:
    source = opened(archive, timeout=4.0)
    listed = listing(source)[TWO]
    archive.faults.hang = what
    with pytest.raises(PeerUnavailable, match=r"PACS at 127.* gave no answer within 4 s"):
        listing(source) if what == "find" else source.fetch(listed, tmp_path)
    archive.stopped.set()
    source.close()


@pytest.mark.parametrize("what", ["find", "get"])
def test_a_peer_that_breaks_off_is_named(archive: Archive, tmp_path: Path, what: str) -> None:
    source = opened(archive)
    listed = listing(source)[TWO]
    archive.faults.abort = what
    with pytest.raises(PeerUnavailable, match="ended the association"):
        listing(source) if what == "find" else source.fetch(listed, tmp_path)
    archive.faults.abort = ""
    assert source.fetch(listed, tmp_path).faults == {}, "a new association does it"
    source.close()


@pytest.mark.parametrize("way", [opened, moving])
def test_what_came_before_a_peer_breaks_off_is_kept(
    archive: Archive, tmp_path: Path, way: Any
) -> None:
    archive.datasets += [noise("one", number) for number in (4, 5)]
    source = way(archive)
    listed = listing(source)[ONE]
    archive.faults.abort_after = 3
    with pytest.raises(BrokenOff, match="ended the association") as caught:
        source.fetch(listed, tmp_path)
    source.close()
    fetched = caught.value.fetched
    came = {dcmread(path).SOPInstanceUID for path in fetched.files}
    assert came == {FIRST, SECOND, uid("demo", "one", 4)}
    assert fetched.expected == 4
    assert fetched.faults == {uid("demo", "one", 5): "listed, and did not come"}


@pytest.mark.parametrize(
    ("what", "status", "says"),
    [
        ("find", 0xA700, r"C-FIND with 0xA700 \(out of resources\)"),
        ("get", 0xA702, r"C-GET with 0xA702 \(out of resources: cannot send\)"),
        ("get", 0xC123, r"C-GET with 0xC123 \(unable to process\)"),
    ],
)
def test_a_refusal_is_told_in_words(
    archive: Archive, source: Source, tmp_path: Path, what: str, status: int, says: str
) -> None:
    listed = listing(source)[TWO]
    archive.faults.status[what] = status
    with pytest.raises(PeerRefused, match=says) as caught:
        listing(source) if what == "find" else source.fetch(listed, tmp_path)
    assert caught.value.status == status


def test_a_move_destination_that_the_peer_does_not_know(archive: Archive, tmp_path: Path) -> None:
    source = moving(archive)
    archive.destinations.clear()
    with pytest.raises(PeerRefused, match=r"C-MOVE with 0xA801 \(unknown move destination\)"):
        source.fetch(listing(source)[TWO], tmp_path)
    source.close()


def test_a_move_may_take_longer_than_the_timeout_while_images_arrive(
    archive: Archive, tmp_path: Path
) -> None:
    # Each pause is a tenth of the timeout, so that a busy machine may stall between two images.
    archive.datasets += [noise("two", n, StudyDate="20260315") for n in range(2, 12)]
    source = moving(archive, timeout=5.0)
    listed = listing(source)[TWO]
    archive.faults.pause = 0.5
    fetched = source.fetch(listed, tmp_path)
    source.close()
    assert (len(fetched.files), fetched.faults) == (11, {})


def test_a_probe_asks_for_next_to_nothing(archive: Archive, source: Source) -> None:
    source.probe()
    assert len(archive.queries) == archive.associations == 1
    assert not any(matches(one, archive.queries[0]) for one in archive.datasets)
    archive.faults.ignores_keys = True
    source.probe()
    source.probe()
    archive.faults.status["find"] = 0xA700
    with pytest.raises(PeerRefused, match="out of resources"):
        source.probe()
    archive.faults.abort = "find"
    with pytest.raises(PeerUnavailable, match="ended the association"):
        source.probe()


def test_a_port_that_another_audit_has_is_named_and_taken_once_it_is_free(
    archive: Archive, tmp_path: Path
) -> None:
    first = moving(archive)
    port = archive.destinations["AUDIT"]
    move = {"retrieve": "move", "move_ae_title": "AUDIT", "move_port": port}
    second = opened(archive, **move, move_bind="127.0.0.1")
    listed = listing(first)[TWO]
    assert first.fetch(listed, tmp_path).faults == {}
    taken = f"move_port = {port}: cannot listen on 127.0.0.1: the port is taken"
    with pytest.raises(ConfigError, match=taken):
        second.fetch(listed, tmp_path)
    first.close()
    assert second.fetch(listed, tmp_path).faults == {}
    second.close()
