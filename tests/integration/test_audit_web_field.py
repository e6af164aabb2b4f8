"""What DICOMweb services of the field answer, each as legal, or as common, as it is odd."""

import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from dicom_ai_node.audit.campaign import AuditSpec, Depth
from dicom_ai_node.audit.collect import gather
from dicom_ai_node.audit.session import Task
from dicom_ai_node.audit.sources import (
    OTHER_STUDY,
    Listed,
    NotAudited,
    Omission,
    OtherStudy,
    Source,
)
from dicom_ai_node.audit.sources.opening import open_source
from dicom_ai_node.audit.sources.selection import DistinctStudies
from dicom_ai_node.audit.study import Attempt
from dicom_ai_node.config import parse_config
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.config.stages import AuditSettings
from dicom_ai_node.errors import PeerRefused
from tests.acceptance.harness import noise
from tests.builders.web import Query, web_service
from tests.integration.test_audit_web import encoded

TODAY = date(2026, 4, 1)
ONE_DAY = AuditSpec(
    source="web:main", first_date=date(2026, 3, 14), last_date=date(2026, 3, 14), today=TODAY
)
EVER = AuditSpec(source="web:main", today=TODAY)
UP_TO = AuditSpec(source="web:main", last_date=TODAY, today=TODAY)


class Reply(Exception):
    """What is answered instead."""

    def __init__(self, status: int, body: bytes = b"", **headers: str) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


class Service:
    """Matches StudyDate and ModalitiesInStudy as PS3.18 says; a test replaces what is odd."""

    def __init__(self) -> None:
        self.studies: list[dict[str, Any]] = []
        self.nothing = Reply(200, b"[]")
        self.refuses: Callable[[Query], Reply | None] = lambda query: None
        self.page: Callable[[list[Any], Query], list[Any]] = by_offset
        self.warns = False
        self.metadata: dict[str, list[Any]] = {}
        self.series: dict[str, list[Any]] = {}
        self.instances: dict[str, Reply] = {}
        self.asked: list[tuple[str, Query]] = []
        self.url = ""

    def answer(self, path: str, query: Query) -> Reply:
        self.asked.append((path, query))
        parts = path.strip("/").split("/")
        if parts[-1] == "metadata":
            return answered(self.metadata[parts[1]])
        if parts[-1] == "series":
            return answered(self.series[parts[1]])
        if "instances" in parts:
            return self.instances[parts[-1]]
        if (refusal := self.refuses(query)) is not None:
            return refusal
        found = [one for one in self.studies if matches(one, query)]
        page = self.page(found, query)
        if not page:
            return self.nothing
        reply = answered(page)
        if self.warns and len(page) < len(found):
            text = f'299 {self.url}: "There are {len(found)} additional results"'
            reply.headers["Warning"] = text
        return reply


def answered(value: Any) -> Reply:
    return Reply(200, json.dumps(value).encode())


def by_offset(found: list[Any], query: Query) -> list[Any]:
    first = number(query, "offset")
    return found[first : first + number(query, "limit")]


def number(query: Query, name: str) -> int:
    return int(query.get(name, ["0"])[0])


def matches(one: dict[str, Any], query: Query) -> bool:
    day = one["00080020"]["Value"][0]
    asked = query.get("StudyDate", [""])[0]
    first, _, last = asked.partition("-") if "-" in asked else (asked, "", asked)
    modality = query.get("ModalitiesInStudy", [""])[0]
    said = one.get("00080061", {}).get("Value", [modality])
    uid = query.get("StudyInstanceUID", [one["0020000D"]["Value"][0]])[0]
    return (
        uid == one["0020000D"]["Value"][0]
        and (not asked or bool(day))
        and (not first or first <= day)
        and (not last or day <= last)
        and (not modality or modality in said)
    )


def study(number: int, *, day: str = "20260314", modality: str = "CR") -> dict[str, Any]:
    return {
        "00080020": {"vr": "DA", "Value": [day]},
        "00080061": {"vr": "CS", "Value": [modality]},
        "0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]},
    }


@pytest.fixture
def service() -> Iterator[Service]:
    one = Service()

    def answer(path: str, query: Query, _: str) -> tuple[int, dict[str, str], bytes]:
        reply = one.answer(path, query)
        body = b"" if reply.status == 204 else reply.body
        return reply.status, {"Content-Type": "application/dicom+json", **reply.headers}, body

    with web_service(answer) as one.url:
        yield one


@pytest.fixture
def source(service: Service) -> Iterator[Source]:
    table = {"kind": "web", "url": service.url, "page": 4, "timeout": 20.0}
    one = open_source("web:main", parse_config({"sources": {"main": table}}))
    yield one
    one.close()


def listing(source: Source, spec: AuditSpec = ONE_DAY) -> tuple[dict[str, Listed], list[Omission]]:
    everything = DistinctStudies(None)
    found = [one for part in source.slices(spec) for one in everything.of(source.list(spec, part))]
    return {one.key: one for one in found}, sorted(everything.omitted().values())


@pytest.mark.parametrize("status", [404, 204, 416, 200])
def test_nothing_matches_however_it_is_said(service: Service, source: Source, status: int) -> None:
    service.nothing = Reply(status)
    service.studies = [study(1, day="20260101")]
    source.probe()
    assert listing(source) == ({}, [])
    service.studies.append(study(2))
    assert list(listing(source)[0]) == ["1.2.2"]


def test_404_to_everything_is_a_wrong_url(service: Service, source: Source) -> None:
    service.refuses = lambda query: Reply(404)
    for ask in (lambda: listing(source), source.probe):
        with pytest.raises(PeerRefused, match=r"HTTP 404 to every search: is the url .* right"):
            ask()
    service.refuses = lambda query: None
    assert listing(source) == ({}, [])


@pytest.mark.parametrize("reply", [Reply(401), Reply(403), Reply(200, b"<html>")])
def test_404_of_what_then_refuses_everything_is_an_error(
    service: Service, source: Source, reply: Reply
) -> None:
    service.refuses = lambda query: Reply(404) if "StudyDate" in query else reply
    with pytest.raises(PeerRefused, match="HTTP 40"):
        listing(source)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(study(1)).encode(),
        json.dumps([study(1)], indent=2).encode("utf-8-sig"),
        json.dumps([study(1)]).lower().encode(),
    ],
)
def test_a_match_without_its_list_with_a_mark_or_tags_in_lower_case(
    service: Service, source: Source, body: bytes
) -> None:
    body = body.replace(b'"value"', b'"Value"')
    service.refuses = lambda query: Reply(206, body) if number(query, "offset") == 0 else None
    assert list(listing(source)[0]) == ["1.2.1"]


def test_a_message_of_a_web_server_is_no_match(service: Service, source: Source) -> None:
    service.refuses = lambda query: Reply(200, b'{"error": "no such project"}')
    with pytest.raises(PeerRefused, match="other JSON than DICOM's"):
        listing(source)


@pytest.mark.parametrize("padding", ["\0", " ", "\0\0", "\u00a0", "\n"])
def test_a_padded_uid_is_understood_everywhere(
    service: Service, source: Source, tmp_path: Path, padding: str
) -> None:
    dataset = noise("one", 1, PatientAge="040Y", StudyInstanceUID="1.2.1")
    answer = dataset.to_json_dict()
    padded = dict(answer)
    for tag in ("0020000D", "0020000E", "00080018", "00080016"):
        padded[tag] = {"vr": "UI", "Value": [answer[tag]["Value"][0] + padding]}
    service.studies = [{**study(1), "0020000D": padded["0020000D"]}]
    service.metadata["1.2.1"] = [padded]
    service.instances[str(dataset.SOPInstanceUID)] = Reply(200, encoded(dataset))
    (listed,) = listing(source)[0].values()
    assert listed.key == "1.2.1"
    (header,) = source.headers(listed)
    assert header.clean("PatientAge") == "040Y"
    fetched = source.fetch(listed, tmp_path)
    assert (len(fetched.files), fetched.expected, fetched.faults) == (1, 1, {})


@pytest.mark.parametrize(
    "modality", ["cr", "CR/SR", "CR,SR", "SR CR\0", "Dx", "DR", 7, None, ["CT"]]
)
def test_a_modality_is_kept_however_it_is_written(
    service: Service, source: Source, modality: Any
) -> None:
    service.studies = [{**study(1), "00080061": {"vr": "CS", "Value": [modality]}}]

    def ignores_the_modality(query: Query) -> None:
        query.pop("ModalitiesInStudy", None)

    service.refuses = ignores_the_modality
    assert list(listing(source)[0]) == ["1.2.1"]


def test_what_a_service_answers_unasked_is_counted(service: Service, source: Source) -> None:
    service.studies = [study(1), study(2, modality="CT"), study(3, day="20200101")]

    def ignores_every_key(query: Query) -> None:
        query.clear()

    service.refuses = ignores_every_key
    service.page = lambda found, query: found
    found, omitted = listing(source)
    assert (list(found), omitted) == (["1.2.1"], [Omission.MODALITY, Omission.DATES])


@pytest.mark.parametrize("status", [400, 422, 501])
@pytest.mark.parametrize(
    "refused", [{"ModalitiesInStudy"}, {"includefield"}, {"ModalitiesInStudy", "includefield"}]
)
def test_what_a_query_may_ask_for_is_found_out(
    service: Service, source: Source, status: int, refused: set[str]
) -> None:
    service.studies = [study(n) for n in range(9)] + [study(10, modality="MR")]
    service.refuses = lambda query: Reply(status) if refused & query.keys() else None
    found, omitted = listing(source)
    assert found.keys() == {f"1.2.{n}" for n in range(9)}
    by_modality = "ModalitiesInStudy" not in refused
    assert omitted == ([] if by_modality else [Omission.MODALITY])
    service.asked.clear()
    listing(source)
    assert not any(refused & query.keys() for _, query in service.asked), "found out once"


def test_all_studies_of_a_service_that_matches_literally_can_be_listed(service: Service) -> None:
    service.studies = [study(1, modality="cr"), study(2, modality="CT")]
    for match, keys, left_out in ((True, [], []), (False, ["1.2.1"], [Omission.MODALITY])):
        table = {"kind": "web", "url": service.url, "match_modality": match}
        source = open_source("web:main", parse_config({"sources": {"main": table}}))
        found, omitted = listing(source)
        source.close()
        assert (list(found), omitted) == (keys, left_out)


def test_series_are_asked_where_a_service_neither_matches_nor_tells_modalities(
    service: Service, source: Source
) -> None:
    service.studies = [study(n) for n in (1, 2)]
    for one in service.studies:
        del one["00080061"]
    service.refuses = lambda query: Reply(400) if "ModalitiesInStudy" in query else None
    service.series = {
        "1.2.1": [{"00080060": {"vr": "CS", "Value": ["SR"]}}, {"00080060": {"Value": ["dx"]}}],
        "1.2.2": [{"00080060": {"vr": "CS", "Value": ["CT"]}}],
    }
    found, omitted = listing(source)
    assert (list(found), omitted) == (["1.2.1"], [Omission.MODALITY])


def many() -> list[dict[str, Any]]:
    """Forty studies over ten years, a dozen of them on one day."""
    dated = [study(n, day=f"20{10 + n % 10}0{1 + n % 9}17") for n in range(28)]
    return dated + [study(100 + n, day="20260314") for n in range(12)]


def uids(studies: list[dict[str, Any]]) -> set[str]:
    return {one["0020000D"]["Value"][0] for one in studies}


@pytest.mark.parametrize("last", [16, 13])
@pytest.mark.parametrize("spec", [EVER, UP_TO])
def test_an_offset_that_ends_is_met_by_windows_of_dates(
    service: Service, source: Source, last: int, spec: AuditSpec
) -> None:
    service.studies = many()
    service.refuses = lambda query: Reply(400) if number(query, "offset") > last else None
    found, _ = listing(source, spec)
    assert uids(service.studies) <= found.keys()
    faults = [one.fault for one in found.values() if one.fault]
    # Nobody can say whether there are studies without a date beyond.
    assert [fault for fault in faults if "without a StudyDate" not in fault] == []
    assert bool(faults) is (spec is EVER)


def test_a_day_that_goes_on_beyond_the_last_offset_is_told(
    service: Service, source: Source
) -> None:
    service.studies = many()
    service.refuses = lambda query: Reply(400) if number(query, "offset") > 4 else None
    found, _ = listing(source)
    faults = [one.fault for one in found.values() if one.fault]
    assert len([one for one in found.values() if not one.fault]) == 8
    assert [fault.partition(": ")[2] for fault in faults] == [
        f"the rest of 20260314: {service.url[7:]} answered QIDO-RS with HTTP 400"
    ]


def test_a_window_of_many_studies_is_cut_before_its_offsets_grow(
    service: Service, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_ai_node.audit.sources.qido.DEEPEST", 12)
    service.studies = many()
    found, _ = listing(source, UP_TO)
    assert found.keys() == uids(service.studies)
    offsets = [
        number(query, "offset") for _, query in service.asked if "-" in query["StudyDate"][0]
    ]
    assert max(offsets) <= 12


def test_an_offset_that_is_ignored_costs_no_study(service: Service, source: Source) -> None:
    service.studies = many()
    service.page = lambda found, query: found[: number(query, "limit")]
    for spec, count in ((EVER, 40), (ONE_DAY, 12)):
        found, _ = listing(source, spec)
        assert len(found) == count
        assert not any(one.fault for one in found.values())


@pytest.mark.parametrize("largest", [3, 4])
def test_an_offset_that_is_ignored_with_a_largest_page_is_told(
    service: Service, source: Source, largest: int
) -> None:
    service.studies = many()
    service.warns = True
    service.page = lambda found, query: found[: min(largest, number(query, "limit"))]
    found, _ = listing(source)
    (fault,) = [one.fault for one in found.values() if one.fault]
    assert "the rest of 20260314" in fault


def test_limit_and_offset_that_are_ignored_give_everything_once(
    service: Service, source: Source
) -> None:
    service.studies = many()
    service.page = lambda found, query: found
    assert listing(source, EVER)[0].keys() == uids(service.studies)


def other(dataset: Dataset, **values: str) -> Dataset:
    changed = Dataset()
    changed.update(dataset)
    changed.file_meta = dataset.file_meta
    for keyword, value in values.items():
        setattr(changed, keyword, value)
    return changed


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"StudyInstanceUID": "1.2.2"}, OTHER_STUDY),
        ({"SOPInstanceUID": "1.2.9"}, "the source sent another instance in its place"),
    ],
)
def test_an_image_of_another_study_is_a_fault_and_none_of_the_study(
    service: Service, source: Source, tmp_path: Path, values: dict[str, str], says: str
) -> None:
    mine = [noise("one", n, StudyInstanceUID="1.2.1") for n in (1, 2)]
    service.studies = [study(1)]
    service.metadata["1.2.1"] = [one.to_json_dict() for one in mine]
    first, second = (str(one.SOPInstanceUID) for one in mine)
    service.instances[first] = Reply(200, encoded(mine[0]))
    service.instances[second] = Reply(200, encoded(other(mine[1], **values)))
    (listed,) = listing(source)[0].values()
    fetched = source.fetch(listed, tmp_path)
    assert [path.stem for path in fetched.files] == [first]
    assert (fetched.expected, fetched.faults) == (2, {second: says})


def test_metadata_of_another_study_are_a_fault_and_none_of_the_study(
    service: Service, source: Source, tmp_path: Path
) -> None:
    mine = noise("one", 1, StudyInstanceUID="1.2.1", PatientAge="040Y")
    strange = noise("other", 1, StudyInstanceUID="1.2.2", PatientAge="090Y")
    service.studies = [study(1)]
    service.metadata["1.2.1"] = [one.to_json_dict() for one in (strange, mine)]
    service.instances[str(mine.SOPInstanceUID)] = Reply(200, encoded(mine))
    (listed,) = listing(source)[0].values()
    with pytest.raises(OtherStudy) as caught:
        source.headers(listed)
    assert [one.clean("PatientAge") for one in caught.value.headers] == ["040Y"]
    fetched = source.fetch(listed, tmp_path)
    assert (len(fetched.files), fetched.faults) == (1, {"study": OTHER_STUDY})
    spec = ONE_DAY.model_copy(update={"depth": Depth.HEADERS})
    into = Attempt.of(source, listed, listed.key)
    asked = (AuditSettings(), RulesSettings(), tmp_path)
    gather(source, listed, into, Task(1, spec, "", lambda: source, *asked))
    assert (into.fault, into.incomplete) == (OTHER_STUDY, True)
    assert [one.clean("PatientAge") for one in into.facts.headers] == ["040Y"]
    service.metadata["1.2.1"] = [strange.to_json_dict()]
    fresh = open_source(
        "web:main", parse_config({"sources": {"main": {"kind": "web", "url": service.url}}})
    )
    with pytest.raises(PeerRefused, match=OTHER_STUDY):
        fresh.headers(listed)
    fresh.close()


def test_a_service_that_sends_a_whole_series_gives_the_image_that_was_asked_for(
    service: Service, source: Source, tmp_path: Path
) -> None:
    mine = [noise("one", n, StudyInstanceUID="1.2.1") for n in (1, 2)]
    service.studies = [study(1)]
    service.metadata["1.2.1"] = [one.to_json_dict() for one in mine]
    body = b"A preamble.\r\n"
    for one in mine:
        body += b'--"b\r\nContent-Type: application/dicom\r\n\r\n' + encoded(one) + b"\r\n"
    reply = Reply(200, body + b'--"b--', **{"Content-Type": r'multipart/related; boundary="\"b"'})
    service.instances = {str(one.SOPInstanceUID): reply for one in mine}
    (listed,) = listing(source)[0].values()
    fetched = source.fetch(listed, tmp_path)
    assert fetched.faults == {}
    assert {path.read_bytes() for path in fetched.files} == {encoded(one) for one in mine}


def test_answers_are_given_by_day_and_listed_once(service: Service, source: Source) -> None:
    service.studies = [study(1), study(1)]
    everything = list(source.list(ONE_DAY, source.slices(ONE_DAY)[0]))
    assert not any(isinstance(one, NotAudited) for one in everything)
    assert list(listing(source)[0]) == ["1.2.1"]
