"""Sources without a peer: how listings are cut, a folder, the node, DICOM JSON, opening."""

import json
import os
import struct
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, RLELossless

from dicom_ai_node.answers import ImageRef
from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import (
    Listed,
    Omission,
    Slice,
    Source,
)
from dicom_ai_node.audit.sources.dicom_json import header_of
from dicom_ai_node.audit.sources.opening import open_source
from dicom_ai_node.audit.sources.selection import (
    DistinctStudies,
    Wanted,
    date_range,
    days,
    halves,
    study_key,
)
from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.demo.images import uid
from dicom_ai_node.dicom.uids import clean_uid
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.pixels.lenient import quiet
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.store import Database
from dicom_ai_node.store.instances import StoredInstance, record
from dicom_ai_node.store.retention import drop_expired
from dicom_ai_node.store.tables import study
from dicom_ai_node.study import State
from tests.acceptance.harness import noise
from tests.builders.rows import TIMING
from tests.unit.test_audit_modality import KEPT as MODALITIES_KEPT

TODAY = date(2026, 4, 1)


def spec(first: date | None = None, last: date | None = None) -> AuditSpec:
    return AuditSpec(source="any", first_date=first, last_date=last, today=TODAY)


@pytest.mark.parametrize(
    ("first", "last", "ranges"),
    [
        (None, None, [""]),
        (None, date(2026, 1, 2), ["-20260102"]),
        (date(2026, 2, 27), date(2026, 3, 1), ["20260227", "20260228", "20260301"]),
        (date(2026, 3, 31), None, ["20260331", "20260401", "20260402-"]),
        (date(2026, 5, 1), None, ["20260501-"]),
    ],
)
def test_an_archive_is_asked_day_by_day(
    first: date | None, last: date | None, ranges: list[str]
) -> None:
    assert [date_range(part) for part in days(spec(first, last))] == ranges


@pytest.mark.parametrize(
    ("study_date", "modalities", "why_not"),
    [
        ("20260314", ["CR"], None),
        ("20260314", ["CT", "DX"], None),
        ("20260314", [], None),
        ("20260314", ["CT"], Omission.MODALITY),
        ("20260313", ["CR"], Omission.DATES),
        ("20260315", ["CR"], Omission.DATES),
        ("20260315\0", ["cr"], Omission.DATES),
        ("", ["CR"], None),
        ("2026.03.01", ["CR"], None),
    ],
)
def test_answers_are_held_against_what_was_asked(
    study_date: str, modalities: list[str], why_not: Omission | None
) -> None:
    wanted = Wanted(spec(date(2026, 3, 14), date(2026, 3, 14)))
    assert wanted.why_not(study_date=study_date, modalities=modalities) is why_not


@pytest.mark.parametrize(
    ("part", "cut"),
    [
        (Slice("20260301", "20260304"), ("20260301-20260302", "20260303-20260304")),
        (Slice("20260301", "20260302"), ("20260301", "20260302")),
        (Slice("20260301", "20260301"), None),
        (Slice(), ("-19980215", "19980216-")),
        (Slice(last="19700101"), None),
        (Slice(first="20260402"), None),
    ],
)
def test_a_window_of_dates_is_cut_without_a_gap(part: Slice, cut: tuple[str, str] | None) -> None:
    found = halves(part, TODAY)
    assert (found and tuple(map(date_range, found))) == cut


@pytest.mark.parametrize(
    ("text", "uid_of_it"),
    [
        ("1.2.3\0", "1.2.3"),
        ("1.2.3 ", "1.2.3"),
        (" 1.2.3\0\0", "1.2.3"),
        ("1.2.3\u00a0", "1.2.3"),
        ("1.02.3", "1.02.3"),
        ("...", ""),
        ("1.2.", ""),
        (".1.2", ""),
        ("1..2", ""),
        ("1." * 32 + "12", ""),
        ("1.2.3x", ""),
        ("", ""),
    ],
)
def test_a_uid_is_read_without_its_padding(text: str, uid_of_it: str) -> None:
    assert clean_uid(text) == uid_of_it
    assert study_key(text, b"").startswith(uid_of_it or "listed:")


def test_json_gives_the_header_that_the_file_has() -> None:
    dataset = noise("json", PatientSex="F", PatientAge="040Y", PatientName="Yamada^T=山田^太郎")
    code = Dataset()
    code.CodeValue, code.CodeMeaning = "113100", "Basic profile"
    dataset.DeidentificationMethodCodeSequence = [code]
    dataset.WindowCenter, dataset.WindowWidth = ["40", "50"], 400
    dataset.PregnancyStatus = 4
    answer = dataset.to_json_dict()
    answer["00080020"] = {"vr": "DA", "Value": [None]}
    answer["00081090"] = {"vr": "LO", "BulkDataURI": "http://elsewhere/"}
    answer["00083002"] = {"vr": "UI", "Value": [RLELossless]}
    from_json, from_file = header_of(answer), TextHeader.from_dataset(dataset)
    assert from_json.transfer_syntax_uid == RLELossless
    assert from_json["StudyDate"] == ""
    assert "ManufacturerModelName" not in from_json
    for keyword in from_file.values.keys() - {"StudyDate", "WindowCenter", "WindowWidth"}:
        assert from_json.clean(keyword) == from_file.clean(keyword), keyword
    assert [float(one) for one in from_json.parts("WindowCenter")] == [40, 50]


@pytest.mark.parametrize(
    "element",
    [None, 7, "x", [], {"Value": 7}, {"Value": {"a": 1}}, {"Value": [[], {}, 1.5]},
     {"InlineBinary": "?"}, {"InlineBinary": 3}, {"vr": "SQ", "Value": ["x", {"00080100": 1}]}],
)  # fmt: skip
def test_no_json_value_stops_the_reading(element: object) -> None:
    header_of({"00100040": element, "00100010": element, "00100041": element, "00083002": element})


def test_json_with_half_a_character_gives_text_that_can_be_written() -> None:
    half = json.loads('"A\\ud800B"')
    answer = {
        "00100020": {"vr": "LO", "Value": [half]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": half}]},
        "00081010": {"vr": "SH", "InlineBinary": "QUI="},
    }
    header = header_of(answer)
    assert (header["PatientID"], header["PatientName"]) == ("A?B", "A?B")
    assert header["StationName"] == "AB"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for place, dataset in {
        "a/1.dcm": noise("one", 1, PatientAge="040Y"),
        "b/no-suffix": noise("one", 2, PatientAge="041Y"),
        "a/two.dcm": noise("two", 1, StudyDate="20260101"),
        "ct.dcm": noise("ct", 1, Modality="CT"),
        "nameless.dcm": noise("nameless", 1, StudyInstanceUID=None),
        "undated.dcm": noise("undated", 1, StudyDate=""),
    }.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
    (root / "notes.txt").write_text("no DICOM, and does not say so")
    (root / "b/empty.dcm").touch()
    (root / "broken").write_bytes(b"\0" * 128 + b"DICM" + struct.pack("<HH2sH", 2, 2, b"UI", 9999))
    os.mkfifo(root / "pipe.dcm")
    return root


def listing(source: Source, asked: AuditSpec) -> dict[str, Listed]:
    parts = [DistinctStudies(None).of(source.list(asked, part)) for part in source.slices(asked)]
    return {one.key: one for answers in parts for one in answers}


def test_a_folder_lists_studies_and_each_damaged_file(tree: Path) -> None:
    source = open_source(f"folder:{tree}", Config())
    found = listing(source, spec(date(2026, 3, 1)))
    damaged = [one for one in found.values() if one.fault]
    assert sorted(one.fault.partition(":")[0] for one in damaged) == ["b/empty.dcm", "broken"]
    assert all(source.headers(one) == () for one in damaged)
    assert all("study" in source.fetch(one, tree).faults for one in damaged)
    (nameless,) = [one for one in found.values() if one not in damaged and ":" in one.key]
    assert source.fetch(nameless, tree).files == (tree / "nameless.dcm",)
    rest = found.keys() - {one.key for one in damaged} - {nameless.key}
    assert rest == {uid("demo", "one"), uid("demo", "undated")}
    assert uid("demo", "two") in listing(source, spec())


def omitted(source: Source, asked: AuditSpec) -> list[Omission]:
    everything = DistinctStudies(None)
    for part in source.slices(asked):
        list(everything.of(source.list(asked, part)))
    return sorted(everything.omitted().values())


def test_what_a_folder_holds_and_is_not_audited_is_counted(tree: Path) -> None:
    source = open_source(f"folder:{tree}", Config())
    assert omitted(source, spec()) == [Omission.NOT_DICOM, Omission.MODALITY]
    dated = omitted(open_source(f"folder:{tree}", Config()), spec(date(2026, 3, 1)))
    assert dated == [Omission.NOT_DICOM, Omission.MODALITY, Omission.DATES]


@pytest.mark.parametrize("modality", MODALITIES_KEPT)
def test_a_modality_is_kept_however_a_file_writes_it(tmp_path: Path, modality: str) -> None:
    dataset = noise("odd")
    tag = Tag("Modality")
    dataset[tag] = RawDataElement(tag, "CS", 0, modality.encode("utf-8"), 0, False, True)
    dataset.save_as(tmp_path / "odd.dcm", enforce_file_format=True)
    assert list(listing(open_source(f"folder:{tmp_path}", Config()), spec())) == [
        uid("demo", "odd")
    ]


def test_a_study_of_two_modalities_is_listed_and_not_counted_as_left_out(tmp_path: Path) -> None:
    noise("both", 1, Modality="SR").save_as(tmp_path / "1", enforce_file_format=True)
    with quiet():
        noise("both", 2, Modality="cr").save_as(tmp_path / "2", enforce_file_format=True)
    source = open_source(f"folder:{tmp_path}", Config())
    assert listing(source, spec()).keys() == {uid("demo", "both")}
    assert omitted(source, spec()) == []


def test_a_folder_gives_the_files_of_a_study_where_they_lie(tree: Path, tmp_path: Path) -> None:
    source = open_source(f"folder:{tree}", Config())
    listed = listing(source, spec())[uid("demo", "one")]
    assert listed.instances == 2
    again = open_source(f"folder:{tree}", Config())  # as after a restart: nothing is listed anew
    headers = again.headers(listed)
    assert sorted(one.clean("PatientAge") for one in headers) == ["040Y", "041Y"]
    fetched = again.fetch(listed, tmp_path)
    assert fetched.files == (tree / "a/1.dcm", tree / "b/no-suffix")
    (tree / "a/1.dcm").write_bytes(b"gone bad")
    faults = again.fetch(listed, tmp_path).faults
    assert list(faults) == ["a/1.dcm"]
    assert faults["a/1.dcm"].startswith("a/1.dcm: expected a DICOM file")
    assert again.fetch(listed, tmp_path).expected == 2


def test_what_a_folder_does_not_let_be_read_is_listed(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that cannot be listed, and files that can be listed and not be looked at."""
    scandir, stat, refused = os.scandir, Path.stat, PermissionError(13, "Permission denied")

    def no_scandir(place: str) -> Any:
        if str(place) == str(tree / "b"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    def no_stat(path: Path, **options: Any) -> os.stat_result:
        if path == tree / "a/two.dcm":
            raise refused
        return stat(path, **options)

    monkeypatch.setattr(os, "scandir", no_scandir)
    monkeypatch.setattr(Path, "stat", no_stat)
    monkeypatch.setattr(Path, "open", opening_but(tree / "a/two.dcm", refused))
    found = listing(open_source(f"folder:{tree}", Config()), spec())
    faults = {one.fault.partition(":")[0]: one for one in found.values() if one.fault}
    assert faults.keys() == {"a/two.dcm", "b", "broken"}
    assert faults["b"].fault == "b: expected a folder that can be listed, got: Permission denied"
    assert faults["b"].instances is None
    assert faults["a/two.dcm"].fault.endswith("got: Permission denied")
    assert found.keys() >= {uid("demo", "one"), uid("demo", "undated")}


def opening_but(one: Path, error: OSError) -> Callable[..., Any]:
    opened = Path.open

    def open_path(path: Path, *more: Any) -> Any:
        if path == one:
            raise error
        return opened(path, *more)

    return open_path


def test_a_folder_that_cannot_be_listed_at_all_is_an_error(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(f"folder:{tree}", Config())

    def no_scandir(place: str) -> Any:
        raise OSError(5, "Input/output error", str(place))

    monkeypatch.setattr(os, "scandir", no_scandir)
    with pytest.raises(ConfigError, match=r"tree: cannot be listed: Input/output error"):
        listing(source, spec())


def test_a_folder_takes_the_class_of_an_anonymised_file_from_its_meta(tmp_path: Path) -> None:
    for name, of_file in (
        ("dx.dcm", DigitalXRayImageStorageForPresentation),
        ("ct", CTImageStorage),
    ):
        dataset = noise(name)
        del dataset.Modality, dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPClassUID = of_file
        dataset.save_as(tmp_path / name, enforce_file_format=True)
    found = listing(open_source(f"folder:{tmp_path}", Config()), spec())
    assert list(found) == [uid("demo", "dx.dcm")]


@pytest.fixture
def node(db: Database, tmp_path: Path) -> Config:
    """Two studies with files, one whose files are dropped, one of a class that is only kept."""
    spool = tmp_path / "spool"
    (spool / "instances").mkdir(parents=True)

    def file(dataset: Dataset, *, analysable: bool = True, content: str = "a") -> None:
        path = spool / "instances" / f"{dataset.SOPInstanceUID}-{content}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        image = ImageRef(
            dataset.SOPClassUID, dataset.SOPInstanceUID, str(dataset.SeriesInstanceUID)
        )
        stored = StoredInstance(
            image=image,
            transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
            path=str(path.relative_to(spool)),
            digest=f"{dataset.SOPInstanceUID}-{content}",
            size=1,
            calling_ae="MODALITY",
            association="",
        )
        uid = str(dataset.StudyInstanceUID)
        record(db, stored, study_instance_uid=uid, analysable=analysable, settings=TIMING, now=0.0)

    file(noise("dropped", 1))
    with db.write() as connection:
        connection.execute(study.update().values(state=State.DELIVERED, updated_at=0.0))
    drop_expired(db, before=1.0, now=2.0, limit=9, remove=lambda path: True)
    file(noise("one", 1, PatientAge="040Y"))
    file(noise("one", 1, PatientAge="044Y"), content="b")
    file(noise("one", 2, PatientAge="041Y"))
    file(noise("two", 0, StudyDate="20260101", Modality="OT"))
    file(noise("two", 1, StudyDate="20260101"))
    file(noise("kept", 1), analysable=False)
    storage = {"spool": str(spool), "database": db.url.render_as_string()}
    return parse_config({"storage": storage})


def test_the_node_lists_what_it_still_holds(node: Config, tmp_path: Path) -> None:
    source = open_source("node", node)
    assert listing(source, spec()).keys() == {uid("demo", "one"), uid("demo", "two")}
    assert omitted(source, spec(date(2026, 3, 1))) == [Omission.DATES]
    found = listing(source, spec(date(2026, 3, 1)))
    assert found.keys() == {uid("demo", "one")}
    listed = found[uid("demo", "one")]
    headers = source.headers(listed)
    assert sorted(one.clean("PatientAge") for one in headers) == ["041Y", "044Y"], "the newest"
    fetched = source.fetch(listed, tmp_path)
    assert (len(fetched.files), fetched.expected, fetched.faults) == (2, 2, {})
    secondary = source.fetch(listing(source, spec())[uid("demo", "two")], tmp_path)
    assert [dcmread(path).Modality for path in secondary.files] == ["CR"]
    fetched.files[1].write_bytes(b"gone bad")
    assert list(source.fetch(listed, tmp_path).faults.values()) == ["damaged in the spool"]
    fetched.files[1].unlink()
    assert list(source.fetch(listed, tmp_path).faults.values()) == ["missing from the spool"]
    gone = source.fetch(Listed(uid("demo", "dropped"), TextHeader()), tmp_path)
    (fault,) = gone.faults.values()
    assert fault == "removed from the spool after its retention time"
    source.close()


@pytest.mark.parametrize("named", ["pacs:other", "web:main", "main", "pacs:", "folder:", "nodes"])
def test_an_unknown_source_names_those_that_there_are(named: str) -> None:
    main = {"kind": "pacs", "host": "h", "port": 104, "ae_title": "PACS"}
    config = parse_config({"sources": {"main": main, "w": {"kind": "web", "url": "http://h"}}})
    with pytest.raises(ConfigError, match="there are: pacs:main, web:w, node, folder:PATH"):
        open_source(named, config)


def test_a_move_to_a_node_that_forwards_is_refused() -> None:
    """It would send the archive's images on to another one."""
    peer = {"host": "h", "port": 104, "ae_title": "PACS"}
    source = {"kind": "pacs", "retrieve": "move"} | peer
    other = {"other": peer | {"forward": "received"}}
    config = parse_config({"sources": {"main": source}, "destinations": other})
    with pytest.raises(ConfigError, match=r"forwards what it receives to other: set .*move_port"):
        open_source("pacs:main", config)
    own = source | {"move_port": 11113, "move_ae_title": "AUDIT"}
    open_source("pacs:main", parse_config({"sources": {"main": own}, "destinations": other}))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        open_source(f"folder:{tmp_path}/nowhere", Config())


@pytest.mark.parametrize(
    ("place", "says"),
    [("env:NOT_SET", "no variable NOT_SET"), ("file:/nowhere/token", "cannot be read")],
)
def test_a_secret_that_is_not_where_it_should_be(place: str, says: str) -> None:
    table = {"kind": "web", "url": "http://h", "headers": {"Authorization": place}}
    config = parse_config({"sources": {"w": table}})
    with pytest.raises(ConfigError, match=rf"headers\.Authorization: .*{says}"):
        open_source("web:w", config)
