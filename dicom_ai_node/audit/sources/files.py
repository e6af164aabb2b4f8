"""Sources that hold files: a folder tree, and the node's own database and spool. Read only."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from dicom_ai_node import pixels
from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import Fetched, Listed, NotAudited, Omission, Slice
from dicom_ai_node.audit.sources.selection import Wanted, names_wanted, study_key, whole
from dicom_ai_node.dicom.classes import ANALYSABLE, STANDARD_ROOT
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.part10 import PREFIX_END, is_part10
from dicom_ai_node.dicom.values import sop_class_of, text_of
from dicom_ai_node.errors import ConfigError, UnreadableInstance
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, instances
from dicom_ai_node.store.instances import HeldInstance

_SUFFIXES = frozenset({".dcm", ".dicom", ".ima", ".dic"})

Paths = list[Path]


class FileSource:
    """What a folder and the node itself have in common: headers cost no transfer of pixels."""

    holds_files = True
    whole_headers = True

    def __init__(self, *, modalities: Sequence[str], limits: Limits) -> None:
        self._modalities = tuple(modalities)
        self._limits = limits

    def probe(self) -> None:
        """Nothing to ask: it does not go away by itself."""

    def slices(self, spec: AuditSpec) -> Sequence[Slice]:
        """One: it answers everything, and a folder would be read whole for each part."""
        return (whole(spec),)

    def close(self) -> None:
        """Nothing to give back."""

    def _header(self, path: Path) -> TextHeader | None:
        try:
            return TextHeader.from_dataset(pixels.read_header(path, self._limits))
        except UnreadableInstance:
            return None


class Folder(FileSource):
    """A folder tree: every DICOM file of a wanted modality below it.

    It is read once; study keys and paths stay in memory.
    """

    def __init__(self, root: Path, *, modalities: Sequence[str], limits: Limits = DEFAULT) -> None:
        super().__init__(modalities=modalities, limits=limits)
        if not root.is_dir():
            raise ConfigError(f"folder:{root}: no such folder")
        self.name = f"folder:{root}"
        self._root = root
        self._read: Mapping[str, Paths] | None = None
        self._faults: dict[str, str] = {}
        self._omitted: list[NotAudited] = []

    def list(self, spec: AuditSpec, part: Slice) -> Iterator[Listed | NotAudited]:
        """The studies by key, each with the header of its first file; then what is left out.

        A file that says it is DICOM and cannot be read is listed by itself, with its fault, and so
        is a folder below that cannot be listed. Raises ConfigError when that is the root.
        """
        wanted = Wanted(spec)
        for key, paths in sorted(self._paths.items()):
            if key in self._faults:
                yield Listed(key, TextHeader(), len(paths) or None, fault=self._faults[key])
            elif (header := wanted.first(self._headers(key))) is None:
                yield NotAudited(key, Omission.DATES)
            else:
                yield Listed(key, header, len(paths))
        yield from self._omitted

    def headers(self, listed: Listed) -> Sequence[TextHeader]:
        """The header of each file that can be read."""
        return tuple(self._headers(listed.key))

    def fetch(self, listed: Listed, folder: Path) -> Fetched:
        """The files where they lie; those that are gone or damaged are faults."""
        found = self._paths.get(listed.key, [])
        if not found:
            return Fetched(faults={"study": "its files are gone"})
        files, faults = [], {}
        for path in found:
            try:
                pixels.read_header(path, self._limits)
            except UnreadableInstance as error:
                place = str(path.relative_to(self._root))
                faults["study" if len(found) == 1 else place] = _reason(path, place, error)
            else:
                files.append(path)
        return Fetched(tuple(files), len(found), faults)

    def _headers(self, key: str) -> Iterator[TextHeader]:
        return filter(None, map(self._header, self._paths.get(key, ())))

    @property
    def _paths(self) -> Mapping[str, Paths]:
        """The files of each study, by its key."""
        if self._read is None:
            paths: dict[str, Paths] = {}

            def unlisted(error: OSError) -> None:
                paths[self._unlisted(error)] = []

            for path in _files(self._root, unlisted):
                key = self._key(path)
                if key:
                    paths.setdefault(key, []).append(path)
            self._read = paths
        return self._read

    def _unlisted(self, error: OSError) -> str:
        """Return the key of a folder that cannot be listed."""
        why = error.strerror or error
        place = os.path.relpath(error.filename, self._root)
        if place == os.curdir:
            raise ConfigError(f"{self.name}: cannot be listed: {why}") from error
        key = study_key("", os.fsencode(place))
        self._faults[key] = f"{place}: expected a folder that can be listed, got: {why}"
        return key

    def _key(self, path: Path) -> str:
        """Return the key of the file's study, '' for a file that is left out."""
        place = str(path.relative_to(self._root))
        by_path = os.fsencode(place)
        try:
            header = pixels.read_header(path, self._limits)
        except UnreadableInstance as error:
            key = study_key("", by_path)
            if not _claims_to_be_dicom(path):
                self._omitted.append(NotAudited(key, Omission.NOT_DICOM))
                return ""
            self._faults[key] = _reason(path, place, error)
            return key
        key = study_key(text_of(header, "StudyInstanceUID"), by_path)
        if self._is_wanted(header):
            return key
        if sop_class_of(header) != MediaStorageDirectoryStorage:  # an index, of no study
            self._omitted.append(NotAudited(key, Omission.MODALITY))
        return ""

    def _is_wanted(self, header: Dataset) -> bool:
        """Whether the file may be an image of a wanted modality, as its class says in doubt."""
        named = names_wanted([TextHeader.from_dataset(header)["Modality"]], self._modalities)
        if named is not None:
            return named
        sop_class = sop_class_of(header)
        return sop_class in ANALYSABLE or not sop_class.startswith(STANDARD_ROOT)


class Node(FileSource):
    """The node's own studies: its database and spool as they are at the moment."""

    name = "node"

    def __init__(
        self, db: Database, spool: Spool, *, modalities: Sequence[str], limits: Limits = DEFAULT
    ) -> None:
        super().__init__(modalities=modalities, limits=limits)
        self._db = db
        self._spool = spool

    def list(self, spec: AuditSpec, part: Slice) -> Iterator[Listed | NotAudited]:
        """The studies of which files are left, by UID, each with the header of its first file."""
        wanted = Wanted(spec)
        for uid in instances.studies_with_files(self._db):
            files = self._files(uid)
            headers = [*filter(None, map(self._header, files))]
            if not headers:
                yield Listed(uid, TextHeader(), len(files), fault="none of its files can be read")
                continue
            radiographs = [*filter(self._is_wanted, headers)]
            if not radiographs:
                yield NotAudited(uid, Omission.MODALITY)
            elif (first := wanted.first(radiographs)) is None:
                yield NotAudited(uid, Omission.DATES)
            else:
                yield Listed(uid, first, len(files))

    def headers(self, listed: Listed) -> Sequence[TextHeader]:
        """The header of each file of a wanted modality."""
        found = filter(None, map(self._header, self._files(listed.key)))
        return tuple(filter(self._is_wanted, found))

    def fetch(self, listed: Listed, folder: Path) -> Fetched:
        """The wanted files in the spool, in the newest version of each instance."""
        files, faults = [], {}
        for instance in self._held(listed.key):
            path = self._spool.path(instance.path)
            if instance.is_gone:
                faults[instance.sop_uid] = "removed from the spool after its retention time"
            elif not path.is_file():
                faults[instance.sop_uid] = "missing from the spool"
            elif (header := self._header(path)) is None:
                faults[instance.sop_uid] = "damaged in the spool"
            elif self._is_wanted(header):
                files.append(path)
        return Fetched(tuple(files), len(files) + len(faults), faults)

    def close(self) -> None:
        """Close the connections to the database."""
        self._db.close()

    def _is_wanted(self, header: TextHeader) -> bool:
        return names_wanted([header["Modality"]], self._modalities) is not False

    def _files(self, uid: str) -> Paths:
        held = self._held(uid)
        return [self._spool.path(instance.path) for instance in held if not instance.is_gone]

    def _held(self, uid: str) -> Sequence[HeldInstance]:
        found = instances.analysable_instances(self._db, uid)
        return sorted(found, key=lambda instance: instance.sop_uid)


def _files(root: Path, unlisted: Callable[[OSError], None]) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, onerror=unlisted):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if _is_file(path):
                yield path


def _is_file(path: Path) -> bool:
    """Whether it is neither a pipe nor a broken link; also where nobody can say."""
    try:
        return path.is_file()
    except OSError:
        return True


def _reason(path: Path, place: str, error: UnreadableInstance) -> str:
    """Return why a file cannot be read, with its whole place: names recur in a tree."""
    return f"{place}{str(error).removeprefix(path.name)}"


def _claims_to_be_dicom(path: Path) -> bool:
    if path.suffix.lower() in _SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return is_part10(file.read(PREFIX_END))
    except OSError:
        return True  # nobody can say that it is not
