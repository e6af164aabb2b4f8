"""Group commit: instances of several associations are filed in one transaction."""

from dataclasses import dataclass
from threading import Lock

from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.errors import StorageError
from dicom_ai_node.store import Database, instances
from dicom_ai_node.store.instances import Filed, StoredInstance


@dataclass(eq=False, slots=True)
class Entry:
    """A durable instance that is to be filed."""

    stored: StoredInstance
    study_instance_uid: str
    analysable: bool
    """False for classes that are only kept."""
    received_at: float
    filed: Filed | None = None
    was_shared: bool = False
    """Whether it has had its turn together with others."""


class Commits:
    """The transactions in which one receiver process files instances, one at a time.

    What comes while one is under way waits for the next, which takes all of it: a commit costs the
    disk the same for one instance as for ten.
    """

    def __init__(self, db: Database, settings: StudySettings, *, forward: bool) -> None:
        self._db = db
        self._settings = settings
        self._forward = forward
        self._waiting: list[Entry] = []
        self._lock = Lock()
        self._turn = Lock()

    def file(self, entry: Entry) -> Filed:
        """File the instance and return what it came to; its row is committed then.

        Raises StorageError: the database cannot take it.
        """
        with self._lock:
            self._waiting.append(entry)
        with self._turn:
            if not entry.was_shared:
                with self._lock:
                    entries, self._waiting = self._waiting, []
                self._share(entries)
        if entry.filed is None:
            self._transact([entry])
        assert entry.filed is not None
        return entry.filed

    def _share(self, entries: list[Entry]) -> None:
        for entry in entries:
            entry.was_shared = True
        try:
            self._transact(entries)
        except StorageError:
            if len(entries) == 1:
                raise
            # What is wrong with one must not keep out the others: each tries alone.

    def _transact(self, entries: list[Entry]) -> None:
        filed = {}
        with self._db.write() as connection:
            # In one order, whoever files them: two that lock the same studies cannot block.
            for entry in sorted(entries, key=lambda entry: entry.study_instance_uid):
                filed[entry] = instances.add(
                    connection,
                    entry.stored,
                    study_instance_uid=entry.study_instance_uid,
                    analysable=entry.analysable,
                    settings=self._settings,
                    now=entry.received_at,
                    forward=self._forward,
                )
        for entry, came_to in filed.items():
            entry.filed = came_to
