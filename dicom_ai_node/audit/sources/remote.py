"""What a PACS and a DICOMweb service have in common: they are asked, and answer what they can."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import Fetched, Listed, NotAudited, Slice
from dicom_ai_node.audit.sources.selection import Wanted, days
from dicom_ai_node.dicom.classes import VERIFICATION
from dicom_ai_node.dicom.uids import is_uid
from dicom_ai_node.rules import TextHeader

NO_STUDY = VERIFICATION
"""No study has this UID: DICOM itself has given it to Verification (PS3.6 annex A)."""
_STUDIES = 3
"""So many different studies refused, and none ever answered, are a service that is not there."""

Inventory = TypeVar("Inventory")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Image:
    """One instance as a source listed it. UIDs are '' where the source names none."""

    sop_uid: str
    sop_class_uid: str
    series_uid: str
    header: TextHeader
    """With what its study and its series said."""


@dataclass(frozen=True, slots=True)
class Demands:
    """What a query of studies asks for beyond what every peer has to know."""

    modality: bool
    """Match ModalitiesInStudy, which is optional; else the answers are held against it here."""
    attributes: bool
    """Name all attributes that are wanted."""


DEMANDS = tuple(Demands(*both) for both in product((True, False), repeat=2))
"""From the most to the least."""


class OptionalService:
    """What is known of a service that a source need not have, from its answers so far.

    That it lacks the service is told from one study that is refused.
    """

    def __init__(self, source: str, what: str) -> None:
        self._source = source
        self._what = what
        self._answered = False
        self._refused: set[str] = set()
        self._missing = False

    def answered(self) -> None:
        """Note that the source has it: what it refuses from now on it refuses of that study."""
        self._answered = True

    def is_missing(self, study_uid: str, *, certain: bool) -> bool:
        """Whether a refusal of ``study_uid`` says that the source has no such service.

        ``certain``: it says so by itself, unless a study was answered before. Otherwise it may be
        this study alone that cannot be had, until others are refused as well.
        """
        if self._answered:
            return False
        if not self._missing:
            self._refused.add(study_uid)
            self._missing = certain or len(self._refused) >= _STUDIES
            if self._missing:
                log.warning("audit_source_lacks", source=self._source, lacks=self._what)
        return self._missing


class RemoteSource(ABC, Generic[Inventory]):
    """An archive that is queried for studies, and once for the inventory of each study."""

    holds_files = False

    def __init__(self, name: str, modalities: Sequence[str]) -> None:
        self.name = name
        self._modalities = tuple(modalities)
        self._inventory: tuple[str, Inventory] | None = None

    def slices(self, spec: AuditSpec) -> Sequence[Slice]:
        """A day each, so that no limit on answers cuts a listing short."""
        return days(spec)

    def list(self, spec: AuditSpec, part: Slice) -> Iterator[Listed | NotAudited]:
        """Every answer, held against what was asked.

        Where one does not say its modalities its series do, which are asked once.
        """
        wanted = Wanted(spec)
        asked: dict[str, Sequence[str]] = {}
        for listed, modalities in self._studies(spec, part):
            if not modalities and is_uid(listed.key) and self._may_ask_series():
                if listed.key not in asked:
                    asked[listed.key] = self._series_modalities(listed.key)
                modalities = asked[listed.key]
            study_date = listed.header.clean("StudyDate")
            why = wanted.why_not(study_date=study_date, modalities=modalities)
            yield NotAudited(listed.key, why) if why else listed

    def fetch(self, listed: Listed, folder: Path) -> Fetched:
        """Retrieve all images of the wanted modalities, and hold them against the listing."""
        if not is_uid(listed.key):
            return Fetched(faults={"study": "listed without a usable StudyInstanceUID"})
        return self._retrieve(listed, self._inventory_of(listed), folder)

    def _inventory_of(self, listed: Listed) -> Inventory:
        """Ask once for a study whose headers are wanted first and then its images."""
        if self._inventory is None or self._inventory[0] != listed.key:
            self._inventory = (listed.key, self._take_inventory(listed))
        return self._inventory[1]

    def _may_ask_series(self) -> bool:
        """Whether the modalities of an answer without any are to be asked for."""
        return True

    @abstractmethod
    def _studies(self, spec: AuditSpec, part: Slice) -> Iterator[tuple[Listed, Sequence[str]]]:
        """Yield the answers to a query of studies, each with the modalities that it says."""

    @abstractmethod
    def _series_modalities(self, study_uid: str) -> Sequence[str]:
        """Return the modalities of a study's series; none where the source does not say."""

    @abstractmethod
    def _take_inventory(self, listed: Listed) -> Inventory:
        """Ask for the wanted images of a study."""

    @abstractmethod
    def _retrieve(self, listed: Listed, inventory: Inventory, folder: Path) -> Fetched:
        """Bring these images."""
