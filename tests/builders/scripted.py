"""An archive that does as it is told, and what it takes to audit it."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom_ai_node.answers import Outcome
from dicom_ai_node.archive.member import Collected
from dicom_ai_node.audit.campaign import AuditSpec, Depth
from dicom_ai_node.audit.session import AuditSession, Task
from dicom_ai_node.audit.sources import BrokenOff, Fetched, Listed, Slice
from dicom_ai_node.audit.study import Seen, collected_from_row
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.config.stages import AuditSettings
from dicom_ai_node.errors import PeerUnavailable
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.store import Database, audit_studies, audits
from tests.builders.answers import study_result
from tests.builders.headers import TODAY, checked, header

OWNER = "test"
SPEC = AuditSpec(source="pacs:fake", depth=Depth.HEADERS, today=TODAY)


def listed(number: int, **changes: Any) -> Listed:
    """Study ``1.2.NUMBER`` with a sound header."""
    uid = f"1.2.{number}"
    return Listed(uid, header(StudyInstanceUID=uid, PatientID=str(number), **changes), 1)


@dataclass
class Archive:
    """A source whose answers are scripted, and that counts what it was asked."""

    days: Sequence[Sequence[Listed]]
    """The studies of each part of the listing."""
    name: str = "pacs:fake"
    holds_files: bool = False
    trouble: dict[str, Callable[[], object]] = field(default_factory=dict)
    """What happens first when a study, ``list:DAY``, or ``probe`` is asked for."""
    files: int = 1
    """How many files a study has that is fetched."""
    breaks_off: set[str] = field(default_factory=set)
    """Studies of which it sends those files and then is gone."""
    asked: Counter[str] = field(default_factory=Counter)
    opened: int = 0
    closed: int = 0
    down: Callable[[], bool] = lambda: False
    whole_headers: bool = field(init=False)

    def __post_init__(self) -> None:
        """As the sources of that kind: a PACS answers C-FIND from its database."""
        self.whole_headers = not self.name.startswith("pacs:")

    def open(self) -> "Archive":
        self.opened += 1
        return self

    def probe(self) -> None:
        self._ask("probe")

    def slices(self, spec: AuditSpec) -> Sequence[Slice]:
        return [Slice(f"{number:08}", f"{number:08}") for number in range(len(self.days))]

    def list(self, spec: AuditSpec, part: Slice) -> Iterator[Listed]:
        self._ask(f"list:{int(part.first)}")
        yield from self.days[int(part.first)]

    def headers(self, listed: Listed) -> Sequence[TextHeader]:
        self._ask(listed.key)
        return [listed.header]

    def fetch(self, listed: Listed, folder: Path) -> Fetched:
        self._ask(f"fetch:{listed.key}")
        paths = []
        for number in range(self.files):
            path = folder / f"{number}.dcm"
            path.write_text(listed.key)
            paths.append(path)
        fetched = Fetched(paths, expected=listed.instances)
        if listed.key in self.breaks_off:
            raise BrokenOff("association aborted", fetched)
        return fetched

    def close(self) -> None:
        self.closed += 1

    def _ask(self, what: str) -> None:
        if self.down():
            raise PeerUnavailable("no association")
        self.asked[what] += 1
        if what in self.trouble:
            self.trouble[what]()


def first_times(count: int, act: Callable[[], object]) -> Callable[[], None]:
    """Do ``act`` the first ``count`` times and then nothing."""
    left = [count]

    def maybe() -> None:
        left[0] -= 1
        if left[0] >= 0:
            act()

    return maybe


def raises(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def hangs() -> None:
    threading.Event().wait()


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self, at: float = 1_000_000.0) -> None:
        self.at = at
        self.slept: list[float] = []

    def now(self) -> float:
        return self.at

    def wait(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


def analyse(uid: str, files: Sequence[Path]) -> Seen:
    """Stands for the network: reads which study the files are of."""
    texts = {path.read_text() for path in files}
    assert len(texts) == 1
    number = int(texts.pop().rpartition(".")[2])
    one = listed(number)
    return Seen((one.header,), 0, study_result(uid, Outcome.REFUSED, checked()))


def new_audit(db: Database, spec: AuditSpec = SPEC) -> int:
    return audits.create(db, spec.model_dump(mode="json"), now=0.0, owner=OWNER, lease_seconds=1e9)


def session(
    db: Database,
    number: int,
    archive: Archive,
    tmp_path: Path,
    *,
    clock: Clock | None = None,
    spec: AuditSpec = SPEC,
    stop: threading.Event | None = None,
    **settings: Any,
) -> AuditSession:
    clock = clock or Clock()
    task = Task(
        audit_id=number,
        spec=spec,
        owner=OWNER,
        open_source=archive.open,
        settings=AuditSettings(**settings),
        rules=RulesSettings(),
        folder=tmp_path / "fetched",
        analyse=None if spec.depth is Depth.HEADERS else analyse,
        stop=stop or threading.Event(),
        now=clock.now,
        wait=clock.wait,
    )
    return AuditSession(db, task)


def collected(db: Database, number: int) -> dict[str, Collected]:
    found = [collected_from_row(one) for one in audit_studies.collected(db, number)]
    assert len({one.key for one in found}) == len(found)
    return {one.key: one for one in found}


def archive(days: int = 3, studies: int = 4) -> Archive:
    return Archive([[listed(studies * one + two) for two in range(studies)] for one in range(days)])
