"""Instances of several associations in one transaction, and what is wrong with one of them."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import Connection, select

from dicom_ai_node.answers import ImageRef
from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.errors import StorageError
from dicom_ai_node.receive.commits import Commits, Entry
from dicom_ai_node.store import Database
from dicom_ai_node.store.instances import Filed, StoredInstance
from dicom_ai_node.store.tables import instance
from tests.builders.databases import opened
from tests.builders.receiving import DX
from tests.builders.waiting import wait_until


class Counting(Database):
    """Counts its transactions; the first of them waits until it may end."""

    transactions = 0

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.may_end = Event()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self.transactions += 1
        with super().write() as connection:
            yield connection
            assert self.may_end.wait(30)


class Bench:
    def __init__(self, url: str) -> None:
        self.db = Counting(url)
        self.commits = Commits(self.db, StudySettings(), forward=False)
        self.pool = ThreadPoolExecutor(8)

    def file(self, number: int, *, path: str | None = "instances/a.dcm") -> Future[Filed]:
        image = ImageRef(DX, f"1.2.{number}", "1.3")
        stored = StoredInstance(image, "1.2.840.10008.1.2.1", path, f"{number:064x}")  # type: ignore[arg-type]
        entry = Entry(stored, f"1.4.{9 - number}", analysable=True, received_at=100.0)
        return self.pool.submit(self.commits.file, entry)

    def begin(self) -> Future[Filed]:
        """File an instance whose transaction lasts until it may end."""
        first = self.file(0)
        wait_until("a transaction", lambda: self.db.transactions == 1)
        return first

    def end(self, *, waiting: int) -> None:
        """Let the transaction end when so many others wait."""
        wait_until("waiting entries", lambda: len(self.commits._waiting) == waiting)
        self.db.may_end.set()

    def filed(self) -> set[str]:
        return set(self.db.scalars(select(instance.c.sop_instance_uid)))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    url = f"sqlite:///{tmp_path / 'node.db'}"
    opened(url).close()
    bench = Bench(url)
    yield bench
    bench.db.may_end.set()
    bench.pool.shutdown()
    bench.db.close()


def test_what_comes_during_a_transaction_shares_the_next(bench: Bench) -> None:
    first = bench.begin()
    others = [bench.file(number) for number in range(1, 6)]
    bench.end(waiting=5)
    assert {future.result(30) for future in (first, *others)} == {Filed.NEW}
    assert bench.filed() == {f"1.2.{number}" for number in range(6)}
    assert bench.db.transactions == 2


def test_what_is_wrong_with_one_keeps_out_no_other(bench: Bench) -> None:
    first = bench.begin()
    sound = [bench.file(number) for number in range(1, 4)]
    wrong = bench.file(4, path=None)
    bench.end(waiting=4)
    assert {future.result(30) for future in (first, *sound)} == {Filed.NEW}
    with pytest.raises(StorageError, match="NOT NULL"):
        wrong.result(30)
    assert bench.filed() == {f"1.2.{number}" for number in range(4)}


def test_one_alone_is_told_what_the_database_says(bench: Bench) -> None:
    bench.db.may_end.set()
    with pytest.raises(StorageError, match="NOT NULL"):
        bench.file(0, path=None).result(30)
    assert bench.file(1).result(30) is Filed.NEW
    assert bench.file(1).result(30) is Filed.DUPLICATE
