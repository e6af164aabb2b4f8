"""Builders for a node between modality and archive: a ward whose images go on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_ai_node.fill.gateway import Gateway
from dicom_ai_node.store import queries
from tests.builders.filling import AGE, Ward


@dataclass(frozen=True)
class Sent:
    """An image in the outbox."""

    sop_instance_uid: str
    kind: str
    destination: str
    path: str
    note: str


class Gate(Ward):
    """A ward that forwards."""

    def sweep(self, *, at: float | None = None) -> int:
        """Queue what is due, by default at a time at which nothing is overdue yet."""
        at = time.time() - 900 if at is None else at
        return Gateway(self.config, self.db, self.spool).sweep(now=at)

    def analysed(self, study: str = "one", number: int = 1, **values: Any) -> str:
        """File an image and end its analysis with an age that policy accepts."""
        uid = self.add_image(study, number, **values)
        self.analyse(AGE, key=f"k{study}{number}", auto_accept=frozenset({AGE}))
        return uid

    def refile(self) -> None:
        """Have another version of every instance come, without its study noticing."""
        with self.db.write() as connection:
            query = "SELECT name FROM pragma_table_info('instance')"
            names = set(connection.exec_driver_sql(query).scalars()) - {"id", "digest"}
            same = ", ".join(sorted(names))
            connection.exec_driver_sql(
                f"INSERT INTO instance (digest, {same}) SELECT digest || 'b', {same} FROM instance"
            )

    def sent(self) -> list[Sent]:
        """The images in the outbox, in the order in which they were queued."""
        query = (
            "SELECT f.sop_instance_uid, r.kind, d.destination, p.path, f.note FROM delivery d "
            "JOIN report r ON r.id = d.report_id JOIN report_file p ON p.report_id = r.id "
            "JOIN forward f ON f.report_id = r.id ORDER BY d.id"
        )
        with self.db.read() as connection:
            return [Sent(*row) for row in connection.exec_driver_sql(query)]

    def kinds(self) -> list[str]:
        return [one.kind for one in self.sent()]

    def notes(self) -> list[str]:
        return [one.note for one in self.sent()]


@contextmanager
def gate(folder: Path, forward: str = "coerced", **destination: Any) -> Iterator[Gate]:
    """A node whose one destination, ``pacs``, gets the images; policy accepts from the dates."""
    pacs = {"port": 104, "forward": forward, **destination}
    found = Gate(folder, {"pacs": pacs}, fill={"auto_accept": ["dates"]})
    try:
        yield found
    finally:
        found.close()


def state(box: Gate, uid: str) -> str:
    detail = queries.show(box.db, uid)
    assert detail is not None
    return detail.study.state
