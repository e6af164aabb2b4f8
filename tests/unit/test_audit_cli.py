"""``audit`` on the command line, over an archive that does as it is told."""

import json
import logging
import os
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from dicom_ai_node.archive.member import Collected
from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import opening
from dicom_ai_node.cli import app
from dicom_ai_node.errors import ConfigError, PeerRefused
from dicom_ai_node.store import Database, audits
from tests.acceptance.harness import noise
from tests.builders.scripted import Archive, collected, listed, raises

pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Archive:
    made = Archive([[listed(0), listed(1, PatientSex=None)], [listed(2), listed(3)]])

    def open_source(named: str, _config: object, *, modalities: tuple[str, ...]) -> Archive:
        if named != "pacs:main":
            raise ConfigError(f"no source {named!r}")
        return made.open()

    monkeypatch.setattr(opening, "open_source", open_source, raising=False)
    return made


@pytest.fixture
def config(tmp_path: Path, db: Database) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(
        f'[storage]\nspool = "{tmp_path}/spool"\n'
        f'database = "{db.url.render_as_string(hide_password=False)}"\n'
        "[audit]\nstudies_per_minute = 6000\nmax_attempts = 1\n"
    )
    return path


def audit(config: Path, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run a command; return its exit code, its objects and all that it printed."""
    given = ["audit", *arguments, "-c", str(config)]
    done = CliRunner().invoke(app, given)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return 1, [], str(done.exception)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done.exit_code, lines, done.output


START = ("start", "--source", "pacs:main", "--headers-only")


def test_an_audit_runs_here_and_is_shown(archive: Archive, config: Path, db: Database) -> None:
    archive.trouble["1.2.2"] = raises(PeerRefused(0xA700, "out of resources"))
    options = ("--from", "2024-01-01", "--to", "20240131", "--modality", "dx, cr", "--json")
    code, (shown,), _ = audit(config, *START, *options)
    assert code == 0
    assert (shown["state"], shown["listed"], shown["settled"], shown["faults"]) == ("done", 4, 4, 1)
    assert shown["faults_by_text"] == {"out of resources": 1}
    spec = shown["spec"]
    assert (spec["first_date"], spec["last_date"]) == ("2024-01-01", "2024-01-31")
    assert (spec["modalities"], spec["depth"]) == (["DX", "CR"], "headers")
    assert len(collected(db, shown["id"])) == 4
    code, (again,), _ = audit(config, "list", "--json")
    assert (again["id"], again["owner"]) == (shown["id"], "")
    _, _, text = audit(config, "show", str(shown["id"]))
    assert "4 of 4 studies, 1 with faults" in text
    assert "1 x out of resources" in text


def test_ctrl_c_pauses_it_and_resume_goes_on(archive: Archive, config: Path, db: Database) -> None:
    archive.trouble["1.2.1"] = lambda: os.kill(os.getpid(), signal.SIGINT)
    code, _, text = audit(config, *START)
    assert code == 130
    assert "audit 1 is paused; go on with: dicom-ai-node audit resume 1" in text
    row = audits.show(db, 1)
    assert row is not None
    assert (row.state, row.owner) == ("paused", "")
    archive.trouble.clear()
    code, (shown,), _ = audit(config, "resume", "1", "--json")
    assert (code, shown["state"], shown["settled"]) == (0, "done", 4)
    assert archive.asked["1.2.0"] == archive.asked["1.2.3"] == 1
    code, _, text = audit(config, "resume", "1")
    assert (code, text) == (1, "audit 1 is done: expected a paused, failed or running one")


@pytest.mark.usefixtures("archive")
def test_without_a_spool_no_audit_begins(config: Path, tmp_path: Path, db: Database) -> None:
    (tmp_path / "spool").write_text("in the way")
    code, _, text = audit(config, *START)
    assert code == 1
    assert text == f"storage.spool = {tmp_path}/spool: File exists"
    assert not audits.find(db, limit=1)


def test_of_associations_it_says_only_what_became_of_the_studies(
    archive: Archive, config: Path
) -> None:
    def complain() -> None:
        logging.getLogger("pynetdicom.assoc").error("Network timeout reached")
        structlog.get_logger().error("something_of_ours")
        raise PeerRefused(0xA700, "out of resources")

    archive.trouble["1.2.2"] = complain
    code, _, text = audit(config, *START)
    assert code == 0
    assert "library_message" not in text
    assert "something_of_ours" in text
    assert "1 x out of resources" in text


def test_a_detached_audit_waits_for_the_node(archive: Archive, config: Path, db: Database) -> None:
    code, (shown,), _ = audit(config, *START, "--detach", "--json")
    assert (code, shown["state"], shown["owner"], shown["listed"]) == (0, "running", "", 0)
    assert audit(config, "pause", "1", "--json")[1] == [
        {"id": 1, "state": "paused", "changed": True}
    ]
    assert audit(config, "cancel", "1")[0] == 0
    code, (said,), _ = audit(config, "pause", "1", "--json")
    assert (code, said) == (1, {"id": 1, "state": "cancelled", "changed": False})
    assert audits.take(db, owner="audit", now=1e12, lease_seconds=1) is None


def test_cancelling_a_killed_audit_removes_its_images(
    archive: Archive, config: Path, db: Database, tmp_path: Path
) -> None:
    number = audits.create(db, {}, now=0.0, owner="cli-killed", lease_seconds=60.0)
    left = tmp_path / "spool" / "audit" / str(number) / "tmp1"
    left.mkdir(parents=True)
    (left / "1.2.3.dcm").write_bytes(b"pixels")
    assert audit(config, "cancel", str(number))[0] == 0
    assert list((tmp_path / "spool" / "audit").iterdir()) == []


def test_a_source_that_cannot_be_listed_fails_the_audit(
    archive: Archive, config: Path, db: Database
) -> None:
    archive.trouble["list:0"] = raises(PeerRefused(0xA900, "not understood"))
    code, _, text = audit(config, *START)
    assert code == 1
    assert "the listing failed: not understood" in text
    assert "dicom-ai-node audit resume 1" in text
    row = audits.show(db, 1)
    assert row is not None
    assert row.state == "failed"
    assert row.note.endswith("the listing failed: not understood")
    archive.trouble.clear()
    assert audit(config, "resume", "1")[0] == 0


def test_a_dry_run_counts_and_asks_for_nothing(
    archive: Archive, config: Path, db: Database
) -> None:
    code, (counts,), _ = audit(config, "start", "--source", "pacs:main", "--dry-run", "--json")
    assert code == 0
    assert (counts["studies"], counts["instances"], counts["flagged"]) == (4, 4, 1)
    assert (counts["images"], counts["minutes_at_rate"]) == (1, pytest.approx(4 / 6000))
    assert set(archive.asked) == {"list:0", "list:1"}
    assert archive.closed == archive.opened == 1
    assert audits.find(db) == []
    _, _, text = audit(config, *START, "--dry-run", "--limit", "3")
    assert "3 studies with 3 instances" in text
    assert "images would be fetched of 0" in text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--source", "pacs:nowhere"), "no source 'pacs:nowhere'"),
        (("--source", "folder:/no/where"), "--source folder:/no/where: no such folder"),
        (("--source", "pacs:main", "--limit", "0"), "--limit 0: .*greater than or equal to 1"),
        (("--source", "pacs:main", "--modality", "dx,c-r"), "--modality C-R: .*pattern"),
        (("--source", "pacs:main", "--alerts-per-day", "-1"), "--alerts-per-day -1.0: "),
        (
            ("--source", "pacs:main", "--from", "2024-02-02", "--to", "2024-02-01"),
            "--from, --to: .*before the first",
        ),
        (
            ("--source", "pacs:main", "--headers-only", "--pixels", "all"),
            "--headers-only and --pixels: expected at most one",
        ),
        (("--source", "pacs:main", "--from", "last week"), "'last week' does not match"),
        (("--source", "pacs:main", "--modality", " , "), "--modality ' , ': expected at least one"),
        (
            ("--source", "pacs:main", "--headers-only", "--alerts-per-day", "2"),
            "--alerts-per-day .* needs images",
        ),
        (
            ("--source", "pacs:main", "--headers-only", "--false-discovery-rate", "0.2"),
            "--false-discovery-rate .* needs images",
        ),
        *(
            (
                ("--source", "pacs:main", "--false-discovery-rate", rate),
                f"--false-discovery-rate {rate}: .*than",
            )
            for rate in ("0.0", "1.0", "nan")
        ),
    ],
)
def test_a_wrong_option_is_named(
    archive: Archive, config: Path, options: tuple[str, ...], says: str, db: Database
) -> None:
    code, _, text = audit(config, "start", *options)
    assert code != 0
    assert re.search(says, " ".join(text.replace("│", " ").split()))
    assert audits.find(db) == []


@pytest.mark.parametrize(("given", "rate"), [((), 0.1), (("--false-discovery-rate", "0.02"), 0.02)])
def test_the_false_discovery_rate_is_asked_for_and_kept_with_the_audit(
    archive: Archive, config: Path, tmp_path: Path, given: tuple[str, ...], rate: float
) -> None:
    options = ("--source", "pacs:main", *given, "--detach", "--json")
    code, (shown,), _ = audit(config, "start", *options)
    assert (code, shown["spec"]["false_discovery_rate"]) == (0, rate)
    assert audit(config, "report", "1", "--out", f"{tmp_path}/out")[0] == 0
    said = json.loads((tmp_path / "out" / "report.json").read_text())
    assert said["spec"]["false_discovery_rate"] == rate


def test_a_report_that_cannot_be_written_names_the_folder(
    archive: Archive, config: Path, tmp_path: Path
) -> None:
    assert audit(config, *START)[0] == 0
    (tmp_path / "taken").touch()
    code, _, text = audit(config, "report", "1", "--out", f"{tmp_path}/taken")
    assert code == 1
    assert text.startswith(f"--out {tmp_path}/taken: expected a folder")


def test_brackets_of_a_name_are_no_markup(config: Path, tmp_path: Path) -> None:
    code, _, text = audit(config, "start", "--source", f"folder:{tmp_path}/[/x]")
    assert (code, "[/x]: no such folder" in text) == (1, True)


def test_a_report_is_concluded_from_what_was_collected(
    archive: Archive, config: Path, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.trouble["list:1"] = raises(PeerRefused(0xA700, "too many"))
    assert audit(config, *START)[0] == 0
    said: dict[str, Any] = {}

    def conclude(spec: AuditSpec, studies: list[Collected], **rest: Any) -> SimpleNamespace:
        said.update(rest, spec=spec, keys=[one.key for one in studies])
        return SimpleNamespace(complete=rest["complete"])

    def write_report(_: object, out: Path, *, identifiers: object) -> list[Path]:
        return [out / "report.html"]

    for name, function in (("conclude", conclude), ("report", write_report)):
        module = SimpleNamespace(conclude=function, write_report=function)
        monkeypatch.setitem(sys.modules, f"dicom_ai_node.audit.{name}", module)
    code, (written,), _ = audit(config, "report", "1", "--out", str(tmp_path), "--json")
    assert (code, written) == (0, {"files": [f"{tmp_path}/report.html"], "complete": False})
    assert said["keys"] == ["1.2.0", "1.2.1", "listing:00000001-00000001"]
    assert (said["listed"], said["complete"], said["model"]) == (3, False, "")
    assert said["spec"].source == "pacs:main"


def test_an_unknown_audit_is_named(config: Path) -> None:
    for command in ("show", "pause", "resume", "cancel"):
        code, _, text = audit(config, command, "7")
        assert (code, text.partition(";")[0]) == (1, "no audit 7")


@pytest.mark.parametrize(
    "command", ["start", "list", "show", "pause", "resume", "cancel", "report"]
)
def test_every_command_has_an_example(command: str) -> None:
    done = CliRunner().invoke(app, ["audit", command, "--help"], env={"COLUMNS": "200"})
    assert f"dicom-ai-node audit {command}" in done.output


@pytest.mark.parametrize("way", ["start", "--dry-run"])
def test_what_a_source_holds_and_is_not_audited_is_shown(
    config: Path, tmp_path: Path, way: str
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    noise("ct", 1, Modality="CT").save_as(folder / "ct.dcm", enforce_file_format=True)
    noise("cr", 1, StudyDate="20100101").save_as(folder / "cr.dcm", enforce_file_format=True)
    (folder / "photo.png").write_bytes(b"no DICOM")
    options = ("--source", f"folder:{folder}", "--from", "2024-01-01", "--headers-only")
    more = () if way == "start" else (way,)
    code, _, text = audit(config, "start", *options, *more)
    assert code == 1, "nothing that is left is audited"
    assert (
        "not audited: 1 file that is not DICOM, 1 study of other modalities, "
        "1 study outside the dates" in text
    )
    code, (shown,), _ = audit(config, "start", *options, *more, "--json")
    assert shown["not_audited"] == {"other_modality": 1, "outside_dates": 1, "not_dicom": 1}
    if way == "start":
        made = json.loads((report_of(config, 1, tmp_path) / "report.json").read_text())
        assert made["not_audited"] == shown["not_audited"]


def test_identifiers_are_written_only_where_the_configuration_allows_them(
    archive: Archive, config: Path, tmp_path: Path
) -> None:
    audit(config, *START)
    asked = ("report", "1", "--out", str(tmp_path / "out"), "--with", "PatientID")
    code, _, text = audit(config, *asked)
    assert code == 1
    assert "--with PatientID: audit.csv_identifiers of the configuration allows none" in text
    config.write_text(config.read_text() + 'csv_identifiers = ["PatientID"]\n')
    code, _, text = audit(config, *asked, "--with", "AccessionNumber")
    assert "--with AccessionNumber: " in text
    assert "allows PatientID alone" in text
    assert not (tmp_path / "out").exists()
    code, _, _ = audit(config, *asked)
    assert code == 0
    assert (tmp_path / "out/studies.csv").read_text().startswith("patient_id,study_instance_uid,")
    assert (report_of(config, 1, tmp_path) / "studies.csv").read_text().startswith("study_inst")


def report_of(config: Path, number: int, folder: Path) -> Path:
    code, _, text = audit(config, "report", str(number), "--out", str(folder / "report"))
    assert code == 0, text
    return folder / "report"
