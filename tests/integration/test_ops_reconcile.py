"""Files and rows held against each other, after a backup of the database was restored."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom.dsutils import encode
from sqlalchemy import delete, func, select, update
from structlog.testing import capture_logs

from dicom_ai_node.config import parse_config
from dicom_ai_node.config.processes import ReceiveSettings
from dicom_ai_node.dicom.part10 import file_head
from dicom_ai_node.dicom.status import SUCCESS
from dicom_ai_node.ops.reconcile import Reconciler
from dicom_ai_node.receive.connection import AssociationRows, Connection
from dicom_ai_node.receive.filing import Filing
from dicom_ai_node.receive.landing import Landing
from dicom_ai_node.receive.requests import StoreRequest
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, tables
from dicom_ai_node.store.node import FileCounts, file_counts
from dicom_ai_node.store.study_queue import close_due
from tests.builders.receiving import EXPLICIT, radiograph
from tests.builders.rows import claim_one, state_of


class Bench:
    """A receiver that files, and the look through what it filed."""

    def __init__(self, folder: Path, db: Database, **values: Any) -> None:
        storage = {"spool": str(folder / "spool"), "database": str(db.url), "min_free_mb": 0}
        self.config = parse_config({"storage": storage, **values})
        self.db = db
        self.spool = Spool(self.config.storage.spool)
        self.landing = Landing(self.spool, process="r0", min_free_mb=0)
        self.rows = AssociationRows(db)
        self.filing = Filing(
            db=db, landing=self.landing, rows=self.rows, settings=self.config.study
        )
        self.reconciler = Reconciler(self.config, db, self.spool)

    def receive(self, ds: Dataset, *, syntax: str = EXPLICIT) -> None:
        uids = {"sop_class_uid": str(ds.SOPClassUID), "sop_instance_uid": str(ds.SOPInstanceUID)}
        incoming = self.landing.begin(file_head(**uids, transfer_syntax_uid=syntax))
        implicit = syntax == ImplicitVRLittleEndian
        data = encode(ds, implicit, True, syntax == DeflatedExplicitVRLittleEndian)
        assert data is not None
        incoming.write(memoryview(data))
        request = StoreRequest(
            **uids, context_sop_class_uid=uids["sop_class_uid"], transfer_syntax_uid=syntax
        )
        peer = Connection("::1", ReceiveSettings(), calling_ae="CT")
        assert self.filing.store(request, incoming, peer).status == SUCCESS

    def files(self) -> list[Path]:
        return sorted(self.spool.instances.glob("*/*.dcm"))

    def age(self) -> None:
        """Let an hour pass for the files."""
        for path in self.files():
            os.utime(path, (time.time() - 3600,) * 2)

    def forget_rows(self) -> None:
        """Restore a database from before anything was received."""
        order = (tables.transition, tables.association_study, tables.instance, tables.study)
        with self.db.write() as connection:
            for table in order:
                connection.execute(delete(table))

    def run(self) -> FileCounts:
        return self.reconciler.run(threading.Event())

    def column(self, column: Any) -> list[Any]:
        with self.db.read() as connection:
            return list(connection.execute(select(column)).scalars())


@pytest.fixture
def bench(tmp_path: Path, any_db: Database) -> Iterator[Bench]:
    bench = Bench(tmp_path, any_db)
    yield bench
    bench.rows.close()
    bench.landing.close()


@pytest.mark.parametrize(
    "syntax", [EXPLICIT, str(ImplicitVRLittleEndian), str(DeflatedExplicitVRLittleEndian)]
)
def test_a_file_without_a_row_is_filed_as_it_was(bench: Bench, syntax: str) -> None:
    ds = radiograph()
    bench.receive(ds, syntax=syntax)
    instance = tables.instance.c
    facts = [instance.sop_instance_uid, instance.digest, instance.path, instance.size,
             instance.transfer_syntax_uid, instance.series_instance_uid, instance.analysable,
             instance.study_instance_uid]  # fmt: skip
    before = [bench.column(fact) for fact in facts]
    bench.forget_rows()
    bench.age()
    with capture_logs() as logged:
        found = bench.run()
    assert (found.registered, found.damaged, found.missing, found.waiting) == (1, 0, 0, 0)
    assert [line["event"] for line in logged] == ["file_registered", "files_registered"]
    assert [bench.column(fact) for fact in facts] == before
    assert state_of(bench.db, str(ds.StudyInstanceUID)) == "collecting"
    assert bench.run().registered == 1  # in all: nothing new
    assert file_counts(bench.db).registered == 1


def test_a_study_is_filed_whole_and_analysed_once(bench: Bench) -> None:
    study = generate_uid()
    for seed in range(5):
        bench.receive(radiograph(study=study, seed=seed))
    bench.forget_rows()
    bench.age()
    assert bench.run().registered == 5
    later = time.time() + 3600
    assert close_due(bench.db, now=later, settings=bench.config.study) == [study]
    assert len(claim_one(bench.db, now=later).instances) == 5


def test_a_young_file_is_left_to_its_receiver(bench: Bench) -> None:
    bench.receive(radiograph())
    bench.forget_rows()
    found = bench.run()
    assert (found.registered, found.waiting) == (0, 1)
    bench.age()
    found = bench.run()
    assert (found.registered, found.waiting) == (1, 0)


def test_a_sender_that_repeats_is_answered_as_ever(bench: Bench) -> None:
    ds = radiograph()
    bench.receive(ds)
    bench.forget_rows()
    bench.age()
    bench.run()
    bench.receive(ds)
    assert len(bench.column(tables.instance.c.id)) == len(bench.files()) == 1


@pytest.mark.parametrize("harm", ["flipped", "cut", "empty"])
def test_a_damaged_file_is_put_aside_with_its_reason(bench: Bench, harm: str) -> None:
    bench.receive(radiograph())
    bench.forget_rows()
    (path,) = bench.files()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    size = {"flipped": len(content), "cut": len(content) // 2, "empty": 0}[harm]
    path.write_bytes(bytes(content[:size]))
    bench.age()
    found = bench.run()
    assert (found.registered, found.damaged) == (0, 1)
    aside = bench.spool.quarantine / path.name
    assert aside.stat().st_size == size
    assert aside.with_suffix(".reason.txt").read_text().strip()
    assert bench.column(tables.quarantine.c.path) == [f"quarantine/{path.name}"]
    assert bench.files() == []


def test_a_row_without_its_file_is_counted_and_said_once(bench: Bench) -> None:
    bench.receive(radiograph())
    bench.receive(radiograph(seed=1))
    bench.files()[0].unlink()
    with capture_logs() as logged:
        assert bench.run().missing == bench.run().missing == 1
    assert [line["event"] for line in logged] == ["files_missing"]
    with bench.db.write() as connection:
        connection.execute(update(tables.instance).values(dropped_at=1.0))
    assert bench.run().missing == 0


def test_a_file_that_retention_is_said_to_have_removed_is_known_again(bench: Bench) -> None:
    bench.receive(radiograph())
    with bench.db.write() as connection:
        connection.execute(update(tables.instance).values(dropped_at=1.0))
    bench.age()
    assert bench.run().registered == 1
    assert bench.column(tables.instance.c.dropped_at) == [None]


def test_what_is_filed_again_is_forwarded_too(tmp_path: Path, sqlite_db: Database) -> None:
    archive = {"host": "::1", "port": 104, "ae_title": "A", "forward": "received"}
    bench = Bench(tmp_path, sqlite_db, destinations={"archive": archive})
    ds = radiograph()
    bench.receive(ds)
    bench.forget_rows()
    bench.age()
    bench.run()
    assert bench.column(tables.forward.c.sop_instance_uid) == [str(ds.SOPInstanceUID)]
    bench.rows.close()
    bench.landing.close()


def test_it_looks_at_the_start_and_when_the_database_was_replaced(
    tmp_path: Path, sqlite_db: Database
) -> None:
    bench = Bench(tmp_path, sqlite_db)
    stop = threading.Event()
    assert bench.reconciler.run_when_due(stop) is not None
    assert bench.reconciler.run_when_due(stop) is None
    sqlite_db.tidy()
    backup = tmp_path / "backup.db"
    backup.write_bytes((tmp_path / "node.db").read_bytes())
    bench.receive(radiograph())
    bench.age()
    sqlite_db.close()  # the log is emptied into the file, and removed
    backup.replace(tmp_path / "node.db")
    found = bench.reconciler.run_when_due(stop)
    assert found is not None
    assert found.registered == 1
    with sqlite_db.read() as connection:
        query = select(func.count()).select_from(tables.instance)
        assert connection.execute(query).scalar() == 1
    bench.rows.close()
    bench.landing.close()
