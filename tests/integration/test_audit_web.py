"""A DICOMweb service that pages, repeats itself, refuses, hangs or answers with garbage."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from structlog.testing import capture_logs

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import BrokenOff, Listed, Source
from dicom_ai_node.audit.sources.opening import open_source
from dicom_ai_node.audit.sources.selection import DistinctStudies
from dicom_ai_node.config import parse_config
from dicom_ai_node.demo.images import uid
from dicom_ai_node.errors import PeerRefused, PeerUnavailable
from tests.acceptance.harness import noise
from tests.builders.web import Query, web_service

SPEC = AuditSpec(
    source="web:main",
    first_date=date(2026, 3, 14),
    last_date=date(2026, 3, 14),
    modalities=("CR",),
    today=date(2026, 4, 1),
)
Reply = tuple[int, str, bytes]


class Service:
    """QIDO-RS for studies, WADO-RS for metadata and instances; faults are replies by path."""

    def __init__(self, datasets: list[Dataset]) -> None:
        self.datasets = datasets
        self.knows_offset = True
        self.limit_from_first = False
        self.largest_page = 2
        self.replies: dict[str, Reply] = {}
        """What the end of a path is answered with, in place of the truth."""
        self.poison: set[str] = set()
        """Studies that make it refuse every answer that they would be part of."""
        self.hang = threading.Event()
        self.hangs = False
        self.asked: list[tuple[str, dict[str, list[str]], str]] = []
        self.url = ""

    def answer(self, path: str, query: dict[str, list[str]]) -> Reply:
        if self.hangs:
            self.hang.wait(60)
        for end, reply in self.replies.items():
            if path.endswith(end):
                return reply
        parts = path.strip("/").split("/")
        if parts == ["studies"]:
            page = self._page(query)
            if any(one["0020000D"]["Value"][0] in self.poison for one in page):
                return 400, "text/plain", b"Bad request"
            return _json(page)
        same = [one for one in self.datasets if one.StudyInstanceUID == parts[1]]
        if parts[-1] == "metadata":
            return _json([_without_pixels(one) for one in same])
        (found,) = [one for one in same if one.SOPInstanceUID == parts[-1]]
        return _multipart(encoded(found))

    def _page(self, query: dict[str, list[str]]) -> list[Any]:
        firsts = {one.StudyInstanceUID: one for one in self.datasets}
        answers = [_without_pixels(one) for one in firsts.values()]
        start = int(query["offset"][0]) if self.knows_offset else 0
        size = int(query["limit"][0])
        if self.limit_from_first:
            return answers[start:size]
        size = min(size, self.largest_page)
        return answers[start : start + size]


def encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _without_pixels(dataset: Dataset) -> dict[str, Any]:
    answer = dataset.to_json_dict()
    answer["7FE00010"] = {"vr": "OW", "BulkDataURI": "http://127.0.0.1:1/never"}
    return answer


def _json(value: Any) -> Reply:
    return 200, "application/dicom+json", json.dumps(value).encode()


def _multipart(content: bytes) -> Reply:
    body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--x--"
    return 200, 'multipart/related; type="application/dicom"; boundary=x', body


@pytest.fixture
def service() -> Iterator[Service]:
    one = Service([noise(f"s{number}", 1, PatientAge=f"04{number}Y") for number in range(5)])
    one.datasets.append(noise("s4", 2, PatientAge="044Y"))
    one.datasets.append(noise("s4", 3, Modality="CT"))

    def answer(path: str, query: Query, authorization: str) -> tuple[int, dict[str, str], bytes]:
        one.asked.append((path, query, authorization))
        status, kind, body = one.answer(path, query)
        return status, {"Content-Type": kind}, body

    with web_service(answer) as one.url:
        yield one
        one.hang.set()


@pytest.fixture
def opened(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Source]]:
    monkeypatch.setenv("TOKEN", "Bearer of-the-environment")
    sources = []

    def open_one(**table: Any) -> Source:
        values = {"kind": "web", "url": service.url, "page": 3, "timeout": 10.0}
        values |= {"headers": {"Authorization": "env:TOKEN"}} | table
        sources.append(open_source("web:main", parse_config({"sources": {"main": values}})))
        return sources[-1]

    yield open_one
    for source in sources:
        source.close()


def listing(source: Source) -> dict[str, Listed]:
    parts = [DistinctStudies(None).of(source.list(SPEC, part)) for part in source.slices(SPEC)]
    return {one.key: one for answers in parts for one in answers}


def test_all_pages_are_read_also_of_a_service_that_gives_less_than_asked_for(
    service: Service, opened: Callable[..., Source]
) -> None:
    assert len(listing(opened())) == 5
    offsets = [query["offset"][0] for _, query, _ in service.asked]
    assert offsets == ["0", "2", "4", "5", "5"]
    path, query, authorization = service.asked[0]
    assert (path, authorization) == ("/studies", "Bearer of-the-environment")
    assert (query["StudyDate"], query["ModalitiesInStudy"]) == (["20260314"], ["CR"])


def test_a_service_that_repeats_itself_ends(
    service: Service, opened: Callable[..., Source]
) -> None:
    service.knows_offset = False
    assert len(listing(opened())) == 2


@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_service_that_counts_the_limit_from_the_first_is_read_to_its_end(
    service: Service, opened: Callable[..., Source], page: int
) -> None:
    service.limit_from_first = True
    assert len(listing(opened(page=page))) == 5


@pytest.mark.parametrize("bad", [{0}, {1}, {4}, {0, 1}, {1, 3, 4}])
@pytest.mark.parametrize("largest", [2, 3, None])
def test_a_study_that_the_service_cannot_describe_costs_no_other(
    service: Service, opened: Callable[..., Source], bad: set[int], largest: int | None
) -> None:
    service.limit_from_first = largest is None
    service.largest_page = largest or 0
    uids = list(dict.fromkeys(str(one.StudyInstanceUID) for one in service.datasets))
    service.poison = {uids[number] for number in bad}
    found = listing(opened())
    faults = [one.fault for one in found.values() if one.fault]
    assert len(faults) == len(bad)
    assert all("HTTP 400" in fault for fault in faults)
    assert set(uids) - service.poison <= found.keys()
    assert len(found) == 5


def test_headers_and_files_are_those_of_wanted_images(
    service: Service, opened: Callable[..., Source], tmp_path: Path
) -> None:
    source = opened()
    listed = listing(source)[uid("demo", "s4")]
    headers = source.headers(listed)
    assert [one.clean("PatientAge") for one in headers] == ["044Y", "044Y"]
    fetched = source.fetch(listed, tmp_path)
    assert (fetched.expected, fetched.faults) == (2, {})
    truth = {encoded(one) for one in service.datasets if one.StudyInstanceUID == listed.key}
    assert {path.read_bytes() for path in fetched.files} < truth
    assert {dcmread(path).Modality for path in fetched.files} == {"CR"}
    assert not any("never" in path for path, _, _ in service.asked)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((404, "text/plain", b""), "HTTP 404"),
        ((500, "text/plain", b""), "HTTP 500"),
        (_multipart(b"no DICOM at all"), "with something else"),
        ((200, "text/html", b"<html>please log in</html>"), "with something else"),
    ],
)
def test_an_image_that_does_not_come_is_a_fault_and_no_stop(
    service: Service, opened: Callable[..., Source], tmp_path: Path, reply: Reply, says: str
) -> None:
    source = opened()
    listed = listing(source)[uid("demo", "s4")]
    missing = uid("demo", "s4", 1)
    service.replies[missing] = reply
    fetched = source.fetch(listed, tmp_path)
    assert [dcmread(path).SOPInstanceUID for path in fetched.files] == [uid("demo", "s4", 2)]
    assert fetched.expected == 2
    assert fetched.faults.keys() == {missing}
    assert says in fetched.faults[missing]


def test_what_came_before_a_service_goes_away_is_kept(
    service: Service, opened: Callable[..., Source], tmp_path: Path
) -> None:
    service.datasets += [noise("s4", number) for number in range(4, 10)]
    source = opened()
    listed = listing(source)[uid("demo", "s4")]
    for number in range(4, 10):
        service.replies[uid("demo", "s4", number)] = (503, "text/plain", b"")
    with pytest.raises(BrokenOff, match="WADO-RS with HTTP 503") as caught:
        source.fetch(listed, tmp_path)
    fetched = caught.value.fetched
    came = {dcmread(path).SOPInstanceUID for path in fetched.files}
    assert came == {uid("demo", "s4", 1), uid("demo", "s4", 2)}
    assert (fetched.expected, len(fetched.faults)) == (8, 6)
    asked = [path for path, _, _ in service.asked if "/instances/" in path]
    assert len(asked) == 2 + 3, "three in a row are enough"


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        ((401, "text/plain", b""), PeerRefused, "QIDO-RS with HTTP 401"),
        ((503, "text/plain", b""), PeerUnavailable, "QIDO-RS with HTTP 503"),
        ((200, "application/json", b"[{"), PeerRefused, "what is no JSON"),
        ((200, "application/json", b"[7]"), PeerRefused, "other JSON than DICOM's"),
    ],
)
def test_a_listing_that_fails_is_told_without_the_url(
    service: Service,
    opened: Callable[..., Source],
    reply: Reply,
    error: type[Exception],
    says: str,
) -> None:
    service.replies["/studies"] = reply
    with pytest.raises(error, match=says) as caught:
        listing(opened())
    assert "20260314" not in str(caught.value)


def test_garbage_among_answers_is_listed(service: Service, opened: Callable[..., Source]) -> None:
    strange = [{}, {"0020000D": {"vr": "UI", "Value": ["not a uid"]}}, {"00100020": 7}]
    service.replies["/studies"] = _json(strange)
    found = listing(opened(page=4))
    assert len(found) == 3
    assert all(key.startswith("listed:") for key in found)


def test_a_study_in_which_nothing_is_wanted_is_told(
    service: Service, opened: Callable[..., Source], tmp_path: Path
) -> None:
    source = opened()
    listed = listing(source)[uid("demo", "s1")]
    service.datasets[1].Modality = "CT"
    fetched = source.fetch(listed, tmp_path)
    assert fetched.faults == {"study": "no image of a wanted modality is listed"}


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((404, "text/plain", b""), "WADO-RS metadata with HTTP 404"),
        ((501, "text/plain", b""), "WADO-RS metadata with HTTP 501"),
        ((403, "text/plain", b""), "WADO-RS metadata with HTTP 403"),
        ((200, "text/html", b"<html>please log in</html>"), "what is no JSON"),
        ((200, "application/dicom+json", b"[]"), "metadata with no instance that it names"),
        ((200, "application/dicom+json", b"[{}]"), "metadata with no instance that it names"),
    ],
)
def test_one_study_whose_metadata_do_not_come_is_a_fault_of_that_study(
    service: Service, opened: Callable[..., Source], tmp_path: Path, reply: Reply, says: str
) -> None:
    source = opened()
    first, second, *_ = listing(source).values()
    assert source.headers(first)
    service.replies[f"{second.key}/metadata"] = reply
    for ask in (lambda: source.headers(second), lambda: source.fetch(second, tmp_path)):
        with pytest.raises(PeerRefused, match=says):
            ask()
    service.replies.clear()
    assert source.headers(second), "asked again"


def test_a_service_without_metadata_is_told_once_and_done_without(
    service: Service, opened: Callable[..., Source]
) -> None:
    source = opened()
    first, second, *others = listing(source).values()
    service.replies["/metadata"] = (404, "text/plain", b"")
    with capture_logs() as logged:
        for one in (first, first, second):  # may be gone, each of them
            with pytest.raises(PeerRefused, match="HTTP 404"):
                source.headers(one)
        assert [source.headers(one) for one in (*others, first, second)] == [()] * 5
    (told,) = logged
    assert (told["source"], told["lacks"]) == ("web:main", "WADO-RS metadata")


@pytest.mark.parametrize("status", [405, 501])
def test_a_service_that_says_it_has_no_metadata_is_believed(
    service: Service, opened: Callable[..., Source], status: int
) -> None:
    source = opened()
    (first, *_) = listing(source).values()
    service.replies["/metadata"] = (status, "text/plain", b"")
    assert source.headers(first) == ()


def test_a_service_that_hangs(service: Service, opened: Callable[..., Source]) -> None:
    service.hangs = True
    with pytest.raises(PeerUnavailable, match=r"gave no answer to QIDO-RS within 1 s"):
        listing(opened(timeout=1.0))


def test_a_service_that_is_not_there(opened: Callable[..., Source]) -> None:
    with pytest.raises(PeerUnavailable, match=r"QIDO-RS failed \(ConnectionError\)"):
        listing(opened(url="http://127.0.0.1:9"))


def test_a_probe_asks_for_next_to_nothing(service: Service, opened: Callable[..., Source]) -> None:
    source = opened()
    source.probe()
    ((path, query, _),) = service.asked
    assert (path, query["limit"]) == ("/studies", ["1"])
    assert query["StudyInstanceUID"][0] not in {one.StudyInstanceUID for one in service.datasets}
    service.replies["/studies"] = (204, "application/dicom+json", b"")
    source.probe()
    service.replies["/studies"] = (404, "text/plain", b"")
    source.probe()
    service.replies["/studies"] = (503, "text/plain", b"")
    with pytest.raises(PeerUnavailable, match="HTTP 503"):
        source.probe()
    service.replies["/studies"] = (403, "text/plain", b"")
    with pytest.raises(PeerRefused, match="HTTP 403"):
        source.probe()
