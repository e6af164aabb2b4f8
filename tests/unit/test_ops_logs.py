"""No name, no ID and no UID of a patient reaches the log."""

import io
import json
import logging
import stat
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydicom import Dataset

from dicom_ai_node.config.processes import LogSettings
from dicom_ai_node.errors import StorageError, UnreadableInstance
from dicom_ai_node.ops import logs
from dicom_ai_node.ops.redaction import KEY_FILE, Redactor

UID = "1.2.826.0.1.3680043.10.1.42.7"
NAME = "Doe^Jane"
PATIENT_ID = "PID-4711"

pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def configured(out: io.StringIO, spool: Path, **settings: Any) -> None:
    logs.configure(LogSettings(**{"format": "json", **settings}), spool=spool, stream=out)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_json_with_level_time_and_worker(out: io.StringIO, tmp_path: Path) -> None:
    logs.configure(LogSettings(format="json"), spool=tmp_path, worker="analyse", stream=out)
    structlog.get_logger().info("study_analysed", images=2)
    (line,) = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "study_analysed",
        "images": 2,
        "level": "info",
        "worker": "analyse",
    }


def test_keys_of_identity_are_hashed_and_joinable(out: io.StringIO, tmp_path: Path) -> None:
    configured(out, tmp_path)
    log = structlog.get_logger()
    log.info("one", study=UID, patient=PATIENT_ID, series=[UID, UID])
    log.bind(study=UID).info("two", instance=UID)
    one, two = lines(out)
    assert one["study"] == two["study"] == logs.hashed(UID)
    assert one["series"] == [logs.hashed(UID)] * 2
    assert len(logs.hashed(UID)) == 16
    assert UID not in out.getvalue()
    assert PATIENT_ID not in out.getvalue()


def test_uids_are_hashed_wherever_they_stand(out: io.StringIO, tmp_path: Path) -> None:
    configured(out, tmp_path)
    structlog.get_logger().info(
        f"filed {UID}",
        path=tmp_path / "reports" / f"{UID}.dcm",
        nested={"list": [UID], UID: 1},
        syntax="1.2.840.10008.1.2.4.70",
        address="192.168.1.20:104",
    )
    assert UID not in out.getvalue()
    (line,) = lines(out)
    assert logs.hashed(UID) in line["event"]
    assert line["syntax"] == "1.2.840.10008.1.2.4.70"
    assert line["address"] == "192.168.1.20:104"


def test_own_errors_speak_and_foreign_ones_only_say_where(out: io.StringIO, tmp_path: Path) -> None:
    configured(out, tmp_path)
    secret = NAME
    try:
        try:
            raise ValueError(f"invalid literal: {secret}")
        except ValueError as cause:
            raise StorageError("the spool is gone") from cause
    except StorageError:
        structlog.get_logger().exception("filing_failed", study=UID)
    (line,) = lines(out)
    outer, inner = line["raised"]
    assert outer["error"] == "StorageError: the spool is gone"
    assert inner["error"] == "ValueError"
    assert "test_own_errors_speak" in inner["at"][0]
    assert NAME not in out.getvalue()


def test_errors_given_as_values_lose_their_message(out: io.StringIO, tmp_path: Path) -> None:
    configured(out, tmp_path)
    missing = FileNotFoundError(2, "No such file or directory", f"/spool/{NAME}.dcm")
    structlog.get_logger().warning(
        "failed", error=ValueError(NAME), why=missing, own=UnreadableInstance("no preamble")
    )
    (line,) = lines(out)
    assert line["error"] == "ValueError"
    assert line["why"] == "FileNotFoundError: No such file or directory"
    assert line["own"] == "UnreadableInstance: no preamble"


def test_a_data_set_is_never_printed(out: io.StringIO, tmp_path: Path) -> None:
    configured(out, tmp_path)
    dataset = Dataset()
    dataset.PatientName = NAME
    structlog.get_logger().info("received", dataset=dataset, element=dataset["PatientName"])
    assert NAME not in out.getvalue()
    assert lines(out)[0]["dataset"] == "Dataset"


@pytest.mark.parametrize("name", ["pynetdicom.association", "pydicom", "some.library"])
def test_foreign_messages_are_withheld(name: str, out: io.StringIO, tmp_path: Path) -> None:
    configured(out, tmp_path, level="debug")
    logger = logging.getLogger(name)
    logger.debug("Data set: %s", NAME)
    logger.info("Received %s", PATIENT_ID)
    try:
        raise ValueError(f"bad value {NAME}")
    except ValueError:
        logger.exception("Exception in handler for %s", NAME)
    (line,) = lines(out)
    assert line["event"] == "library_message"
    assert line["logger"] == name
    assert line["place"].startswith("test_ops_logs:")
    assert line["raised"][0]["error"] == "ValueError"
    assert NAME not in out.getvalue()
    assert PATIENT_ID not in out.getvalue()


def test_warnings_of_libraries_are_withheld(out: io.StringIO, tmp_path: Path) -> None:
    configured(out, tmp_path, level="debug")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn(f"Invalid value for VR PN: {NAME}", stacklevel=1)
    assert lines(out)[0]["logger"] == "py.warnings"
    assert NAME not in out.getvalue()


def test_the_chatter_of_libraries_is_no_part_of_the_log(out: io.StringIO, tmp_path: Path) -> None:
    configured(out, tmp_path, level="info")
    for name in ("pynetdicom.transport", "pydicom", "py.warnings"):
        logging.getLogger(name).error("Association request failed: unable to connect")
    for name in ("uvicorn.error", "alembic", "sqlalchemy.pool", "PIL.Image", "asyncio"):
        logging.getLogger(name).warning("Invalid HTTP request received.")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"Invalid value for VR PN: {NAME}", stacklevel=1)
    structlog.get_logger().info("ours")
    logging.getLogger("sqlalchemy.pool").error("Exception closing connection")
    logging.getLogger("asyncio").error("Task exception was never retrieved")
    try:
        raise ValueError(NAME)
    except ValueError:
        logging.getLogger("pynetdicom.events").exception("Exception in the handler")
    seen = [(line["event"], line.get("logger")) for line in lines(out)]
    assert seen == [
        ("ours", None),
        ("Exception closing connection", "sqlalchemy.pool"),
        ("library_message", "asyncio"),
        ("library_message", "pynetdicom.events"),
    ]
    assert NAME not in out.getvalue()


def test_trusted_libraries_speak_at_sane_levels(out: io.StringIO, tmp_path: Path) -> None:
    configured(out, tmp_path, level="debug")
    logging.getLogger("alembic.runtime.migration").info("Context impl SQLiteImpl.")
    logging.getLogger("uvicorn.error").warning("Cancel %d running task(s)", 2)
    logging.getLogger("sqlalchemy.engine").info("SELECT ... %s", UID)
    (line,) = lines(out)
    assert line["event"] == "Cancel 2 running task(s)"


def test_a_message_that_cannot_be_formatted_prints_nothing(
    out: io.StringIO, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(out, tmp_path)
    logging.getLogger("uvicorn").error("%d studies", NAME)
    assert NAME not in out.getvalue() + capsys.readouterr().err


def test_uncaught_exceptions_of_threads_are_logged_without_values(
    out: io.StringIO, tmp_path: Path
) -> None:
    configured(out, tmp_path)

    def work() -> None:
        raise KeyError(NAME)

    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join()
    (line,) = lines(out)
    assert (line["event"], line["thread"]) == ("thread_crashed", "worker")
    assert NAME not in out.getvalue()


def test_the_level_is_obeyed(out: io.StringIO, tmp_path: Path) -> None:
    configured(out, tmp_path, level="error")
    structlog.get_logger().warning("quiet")
    structlog.get_logger().error("loud")
    assert [line["event"] for line in lines(out)] == ["loud"]


def test_the_console_shows_errors_too(out: io.StringIO, tmp_path: Path) -> None:
    configured(out, tmp_path, format="console")
    structlog.get_logger().error("filing_failed", study=UID, exc_info=StorageError("no room"))
    assert "StorageError: no room" in out.getvalue()
    assert UID not in out.getvalue()


def test_the_key_is_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    assert logs.use_key(LogSettings(), spool)
    first = logs.hashed(UID)
    assert logs.use_key(LogSettings(), spool)
    assert logs.hashed(UID) == first
    assert stat.S_IMODE((spool / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in spool.iterdir()] == [KEY_FILE]


def test_a_configured_key_is_used_and_written_nowhere(tmp_path: Path) -> None:
    assert logs.use_key(LogSettings(hash_key="secret"), tmp_path)
    assert logs.hashed(UID) == Redactor(b"secret").hashed(UID)
    assert list(tmp_path.iterdir()) == []


def test_without_a_place_for_the_key_lines_are_hashed_all_the_same(
    out: io.StringIO, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    configured(out, blocked)
    structlog.get_logger().info("filed", study=UID)
    assert [line["event"] for line in lines(out)] == ["log_key_not_kept", "filed"]
    assert UID not in out.getvalue()


def test_the_terminal_is_shown_no_code_of_a_peer(out: io.StringIO, tmp_path: Path) -> None:
    configured(out, tmp_path, format="console")
    structlog.get_logger().warning("refused", calling_ae="A\x1b[2J\u202eB\x00")
    assert "A\\x1b[2J\\u202eB\\x00" in out.getvalue()
    assert not {"\x1b", "\u202e", "\x00"} & set(out.getvalue())
