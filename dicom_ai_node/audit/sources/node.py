"""What the node itself holds: its database and spool, as they are at the moment. Read only."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dicom_ai_node import pixels
from dicom_ai_node.audit.sources.listing import Wanted, whole
from dicom_ai_node.audit.sources.source import Fetched, Listed, Slice
from dicom_ai_node.audit.spec import AuditSpec
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.rules import Header
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, held

Paths = list[Path]


class Node:
    """The node's own studies as a source."""

    name = "node"
    holds_files = True

    def __init__(self, db: Database, spool: Spool, *, modalities: Sequence[str]) -> None:
        self._db = db
        self._spool = spool
        self._modalities = tuple(modalities)

    def slices(self, spec: AuditSpec) -> Sequence[Slice]:
        """One: the database answers everything."""
        return (whole(spec),)

    def list(self, spec: AuditSpec, part: Slice) -> Iterator[Listed]:
        """The studies of which files are left, by UID, each with the header of its first file."""
        wanted = Wanted(spec.modalities, part)
        for uid in held.studies(self._db):
            files = self._files(uid)
            header = next(iter(_headers(files)), Header())
            if wanted(
                study_date=header.clean("StudyDate"), modalities=header.parts("Modality")[:1]
            ):
                yield Listed(uid, header, instances=len(files))

    def headers(self, listed: Listed) -> Sequence[Header]:
        """The header of each file of a wanted modality."""
        wanted = Wanted(self._modalities, Slice())
        found = _headers(self._files(listed.key))
        return tuple(one for one in found if wanted.modality(one.parts("Modality")[:1]))

    def fetch(self, listed: Listed, folder: Path) -> Fetched:
        """The files in the spool, in the newest version of each instance."""
        files, faults = [], {}
        instances = held.instances(self._db, listed.key)
        for one in instances:
            path = self._spool.path(one.path)
            if one.dropped:
                faults[one.sop_instance_uid] = "removed from the spool after its retention time"
            elif not path.is_file():
                faults[one.sop_instance_uid] = "missing from the spool"
            else:
                files.append(path)
        return Fetched(tuple(files), len(instances), faults)

    def close(self) -> None:
        """Close the connections to the database."""
        self._db.close()

    def _files(self, uid: str) -> Paths:
        found = held.instances(self._db, uid)
        return [self._spool.path(one.path) for one in found if not one.dropped]


def _headers(files: Sequence[Path]) -> Iterator[Header]:
    for path in files:
        try:
            header = pixels.read_header(path)
        except UnreadableInstance:
            continue
        yield Header.from_dataset(header)
