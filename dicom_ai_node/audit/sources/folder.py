"""A folder tree: every DICOM file of a wanted modality below it."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from dicom_ai_node import pixels
from dicom_ai_node.audit.sources.listing import Wanted, study_key, whole
from dicom_ai_node.audit.sources.modality import speaks_for
from dicom_ai_node.audit.sources.source import Fetched, Listed, NotAudited, Omission, Slice
from dicom_ai_node.audit.spec import AuditSpec
from dicom_ai_node.dicom.classes import ANALYSABLE, STANDARD_ROOT
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.part10 import PREFIX_END, is_part10
from dicom_ai_node.dicom.values import sop_class_of, text_of
from dicom_ai_node.errors import ConfigError, UnreadableInstance
from dicom_ai_node.rules import Header

_SUFFIXES = frozenset({".dcm", ".dicom", ".ima", ".dic"})

Paths = list[Path]


class Folder:
    """A folder tree as a source: read once, of which study keys and paths are kept."""

    holds_files = True
    whole_headers = True

    def __init__(self, root: Path, *, modalities: Sequence[str], limits: Limits = DEFAULT) -> None:
        if not root.is_dir():
            raise ConfigError(f"folder:{root}: no such folder")
        self.name = f"folder:{root}"
        self._root = root
        self._modalities = tuple(modalities)
        self._limits = limits
        self._paths: dict[str, Paths] | None = None
        self._faults: dict[str, str] = {}
        self._omitted: list[NotAudited] = []

    def probe(self) -> None:
        """Nothing to ask: it does not go away by itself."""

    def slices(self, spec: AuditSpec) -> Sequence[Slice]:
        """One: a folder answers everything, and each part would read all of it."""
        return (whole(spec),)

    def list(self, spec: AuditSpec, part: Slice) -> Iterator[Listed | NotAudited]:
        """The studies by key, each with the header of its first file; then what is left out.

        A file that says it is DICOM and cannot be read is listed by itself, with its fault, and so
        is a folder below that cannot be listed. Raises ConfigError when that is the root.
        """
        wanted = Wanted(spec)
        paths = self._index()
        for key in sorted(paths):
            if key in self._faults:
                count = len(paths[key]) or None
                yield Listed(key, Header(), instances=count, fault=self._faults[key])
                continue
            header = wanted.first(self._headers(key))
            if header is None:
                yield NotAudited(key, Omission.DATES)
            else:
                yield Listed(key, header, instances=len(paths[key]))
        yield from self._omitted

    def headers(self, listed: Listed) -> Sequence[Header]:
        """The header of each file that can be read."""
        return tuple(self._headers(listed.key))

    def fetch(self, listed: Listed, folder: Path) -> Fetched:
        """The files where they lie; those that are gone or damaged are faults."""
        found = self._index().get(listed.key, [])
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

    def close(self) -> None:
        """Nothing to give back."""

    def _headers(self, key: str) -> Iterator[Header]:
        for path in self._index().get(key, ()):
            try:
                header = pixels.read_header(path, self._limits)
            except UnreadableInstance:
                continue
            yield Header.from_dataset(header)

    def _index(self) -> dict[str, Paths]:
        if self._paths is None:
            paths: dict[str, Paths] = {}

            def unlisted(error: OSError) -> None:
                paths[self._unlisted(error)] = []

            for path in _files(self._root, unlisted):
                key = self._key(path)
                if key:
                    paths.setdefault(key, []).append(path)
            self._paths = paths
        return self._paths

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
        said = speaks_for([Header.from_dataset(header)["Modality"]], self._modalities)
        if said is not None:
            return said
        sop_class = sop_class_of(header)
        return sop_class in ANALYSABLE or not sop_class.startswith(STANDARD_ROOT)


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
