"""What the node itself holds: its database and spool, as they are at the moment. Read only."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dicom_ai_node import pixels
from dicom_ai_node.audit.sources.listing import Wanted, whole
from dicom_ai_node.audit.sources.modality import speaks_for
from dicom_ai_node.audit.sources.source import Fetched, Listed, NotAudited, Omission, Slice
from dicom_ai_node.audit.spec import AuditSpec
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.rules import Header
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, instances

Paths = list[Path]


class Node:
    """The node's own studies as a source."""

    name = "node"
    holds_files = True
    whole_headers = True

    def __init__(
        self,
        db: Database,
        spool: Spool,
        *,
        modalities: Sequence[str],
        limits: Limits = DEFAULT,
    ) -> None:
        self._db = db
        self._spool = spool
        self._modalities = tuple(modalities)
        self._limits = limits

    def probe(self) -> None:
        """Nothing to ask: it does not go away by itself."""

    def slices(self, spec: AuditSpec) -> Sequence[Slice]:
        """One: the database answers everything."""
        return (whole(spec),)

    def list(self, spec: AuditSpec, part: Slice) -> Iterator[Listed | NotAudited]:
        """The studies of which files are left, by UID, each with the header of its first file."""
        wanted = Wanted(spec)
        for uid in instances.studies_with_files(self._db):
            files = self._files(uid)
            headers = [header for path in files if (header := self._header(path)) is not None]
            if not headers:
                yield Listed(uid, Header(), len(files), fault="none of its files can be read")
                continue
            radiographs = [one for one in headers if self._is_wanted(one)]
            if not radiographs:
                yield NotAudited(uid, Omission.MODALITY)
            elif (header := wanted.first(radiographs)) is None:
                yield NotAudited(uid, Omission.DATES)
            else:
                yield Listed(uid, header, len(files))

    def headers(self, listed: Listed) -> Sequence[Header]:
        """The header of each file of a wanted modality."""
        found = map(self._header, self._files(listed.key))
        return tuple(one for one in found if one is not None and self._is_wanted(one))

    def fetch(self, listed: Listed, folder: Path) -> Fetched:
        """The wanted files in the spool, in the newest version of each instance."""
        files, faults = [], {}
        for one in instances.analysable_instances(self._db, listed.key):
            path = self._spool.path(one.path)
            if one.dropped:
                faults[one.sop_instance_uid] = "removed from the spool after its retention time"
            elif not path.is_file():
                faults[one.sop_instance_uid] = "missing from the spool"
            elif (header := self._header(path)) is None:
                faults[one.sop_instance_uid] = "damaged in the spool"
            elif self._is_wanted(header):
                files.append(path)
        return Fetched(tuple(files), len(files) + len(faults), faults)

    def close(self) -> None:
        """Close the connections to the database."""
        self._db.close()

    def _header(self, path: Path) -> Header | None:
        try:
            return Header.from_dataset(pixels.read_header(path, self._limits))
        except UnreadableInstance:
            return None

    def _is_wanted(self, header: Header) -> bool:
        return speaks_for([header["Modality"]], self._modalities) is not False

    def _files(self, uid: str) -> Paths:
        found = instances.analysable_instances(self._db, uid)
        return [self._spool.path(one.path) for one in found if not one.dropped]
