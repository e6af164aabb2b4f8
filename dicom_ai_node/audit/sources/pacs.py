"""A PACS: C-FIND at study level lists, C-GET or C-MOVE brings (PS3.4 annex C, Study Root)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import Fetched, Listed, Slice, cfind
from dicom_ai_node.audit.sources.inventory import Inventory, modalities_of, take_inventory
from dicom_ai_node.audit.sources.remote import NO_STUDY, OptionalService, RemoteSource
from dicom_ai_node.audit.sources.retrieval import PacsAssociation, Retrieval
from dicom_ai_node.audit.sources.selection import study_key
from dicom_ai_node.config.peers import PacsTable
from dicom_ai_node.dicom.classes import FIND
from dicom_ai_node.dicom.uids import is_uid
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.peer.exchange import Match
from dicom_ai_node.rules import TextHeader


class Pacs(RemoteSource[Inventory | None]):
    """A PACS as a source; one association for queries stays open between them."""

    whole_headers = False

    def __init__(
        self,
        name: str,
        table: PacsTable,
        retrieval: Retrieval,
        *,
        calling_ae_title: str,
        modalities: Sequence[str],
    ) -> None:
        super().__init__(name, modalities)
        self._retrieval = retrieval
        self._queries = PacsAssociation(table, FIND, calling_ae_title=calling_ae_title)
        self._search = cfind.StudySearch(
            name, self._queries.exchange, match_modality=table.match_modality
        )
        self._levels = {
            level: OptionalService(name, f"C-FIND at {level} level")
            for level in ("SERIES", "IMAGE")
        }

    def probe(self) -> None:
        """Ask for one study by a UID that none has: also a peer whose database is away fails."""
        query = cfind.query("STUDY", (), StudyInstanceUID=NO_STUDY)
        found = self._queries.exchange().find(query)
        next(found, None)  # of a peer that ignores the key
        found.close()

    def headers(self, listed: Listed) -> Sequence[TextHeader]:
        """What C-FIND answers for each image, its series and its study.

        Of peers that answer less, one header for each series or for the study alone.
        """
        inventory = self._inventory_of(listed) if is_uid(listed.key) else None
        return (inventory.headers if inventory else ()) or (listed.header,)

    def close(self) -> None:
        """Release the associations."""
        self._retrieval.close()
        self._queries.release()

    def _studies(self, spec: AuditSpec, part: Slice) -> Iterator[tuple[Listed, Sequence[str]]]:
        for answer in self._search.studies(spec, part):
            dataset = answer.dataset
            said = cfind.texts_of(dataset, "ModalitiesInStudy") if dataset is not None else []
            yield _listed(answer), said

    def _series_modalities(self, study_uid: str) -> Sequence[str]:
        return modalities_of(self._queries.exchange(), study_uid, self._levels)

    def _take_inventory(self, listed: Listed) -> Inventory | None:
        return take_inventory(self._queries.exchange(), listed, self._modalities, self._levels)

    def _retrieve(self, listed: Listed, inventory: Inventory | None, folder: Path) -> Fetched:
        return self._retrieval.fetch(listed, inventory, folder)


def _listed(answer: Match) -> Listed:
    dataset = answer.dataset
    if dataset is None:
        return Listed(study_key("", answer.content), TextHeader())
    return Listed(
        key=study_key(text_of(dataset, "StudyInstanceUID"), answer.content),
        header=TextHeader.from_dataset(dataset),
        instances=cfind.number_of(dataset, "NumberOfStudyRelatedInstances"),
    )
