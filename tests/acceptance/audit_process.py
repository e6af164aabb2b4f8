"""The audit role as ``serve`` starts it, over an archive that is slow and keeps a diary.

python -m tests.acceptance.audit_process node.toml diary.txt
"""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import Fetched, Listed, Slice, opening
from dicom_ai_node.audit.worker import run
from dicom_ai_node.config import load_config
from dicom_ai_node.rules import TextHeader
from tests.builders.scripted import listed

DAYS, STUDIES, SECONDS = 10, 12, 0.03


class SlowArchive:
    """Writes down each study that it is asked for, and takes its time."""

    name = "pacs:slow"
    holds_files = False
    whole_headers = False

    def __init__(self, diary: Path) -> None:
        self.diary = diary

    def probe(self) -> None:
        pass

    def slices(self, spec: AuditSpec) -> Sequence[Slice]:
        return [Slice(f"{day:08}", f"{day:08}") for day in range(DAYS)]

    def list(self, spec: AuditSpec, part: Slice) -> Iterator[Listed]:
        for number in range(STUDIES):
            time.sleep(SECONDS / 10)
            sex = None if number % 5 == 0 else "F"
            yield listed(int(part.first) * STUDIES + number, PatientSex=sex)

    def headers(self, listed: Listed) -> Sequence[TextHeader]:
        with self.diary.open("a") as diary:
            diary.write(f"{listed.key}\n")
        time.sleep(SECONDS)
        return [listed.header]

    def fetch(self, listed: Listed, folder: Path) -> Fetched:
        raise NotImplementedError

    def close(self) -> None:
        pass


def main() -> None:
    config, diary = load_config(Path(sys.argv[1])), Path(sys.argv[2])
    # mypy and the program know the real one; here the archive is the point.
    vars(opening)["open_source"] = lambda *_, **__: SlowArchive(diary)
    run(config, stop=threading.Event())


if __name__ == "__main__":
    main()
