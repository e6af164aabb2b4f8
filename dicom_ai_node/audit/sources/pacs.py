"""A PACS: C-FIND at study level lists, C-GET or C-MOVE brings (PS3.4 annex C, Study Root)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pynetdicom import build_context

from dicom_ai_node.audit.sources import answers
from dicom_ai_node.audit.sources.inventory import Inventory, modalities_of, take_inventory
from dicom_ai_node.audit.sources.listing import NO_STUDY, Wanted, days, study_key
from dicom_ai_node.audit.sources.offer import Offer
from dicom_ai_node.audit.sources.retrieval import Retrieval
from dicom_ai_node.audit.sources.search import StudySearch
from dicom_ai_node.audit.sources.source import Fetched, Listed, NotAudited, Slice
from dicom_ai_node.audit.spec import AuditSpec
from dicom_ai_node.config.peers import PacsTable
from dicom_ai_node.dicom.classes import FIND
from dicom_ai_node.dicom.syntaxes import OFFERED_SYNTAXES
from dicom_ai_node.dicom.uids import is_uid
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.peer import quiet_pynetdicom
from dicom_ai_node.peer.exchange import Answer, Exchange
from dicom_ai_node.rules import Header

Texts = list[str]


class Pacs:
    """A PACS as a source; one association for queries stays open between them."""

    holds_files = False
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
        quiet_pynetdicom()
        self.name = name
        self._table = table
        self._calling_ae_title = calling_ae_title
        self._modalities = tuple(modalities)
        self._retrieval = retrieval
        self._search = StudySearch(name, self._connected, match_modality=table.match_modality)
        self._exchange: Exchange | None = None
        self._inventory: tuple[str, Inventory | None] = ("", None)
        self._offers = {
            level: Offer(name, f"C-FIND at {level} level") for level in ("SERIES", "IMAGE")
        }

    def probe(self) -> None:
        """Ask for one study by a UID that none has: also a peer whose database is away fails."""
        found = self._connected().find(answers.query("STUDY", (), StudyInstanceUID=NO_STUDY))
        next(found, None)  # of a peer that ignores the key
        found.close()

    def slices(self, spec: AuditSpec) -> Sequence[Slice]:
        """A day each, so that no limit on answers cuts a listing short."""
        return days(spec)

    def list(self, spec: AuditSpec, part: Slice) -> Iterator[Listed | NotAudited]:
        """Ask once for each modality: ModalitiesInStudy matches a single value (PS3.4 C.6.2.1)."""
        wanted = Wanted(spec)
        asked: dict[str, Texts] = {}
        for answer in self._search.studies(spec, part):
            listed = _listed(answer)
            modalities = self._modalities_of(answer, listed, asked)
            why = wanted.why_not(study_date=listed.header.clean("StudyDate"), modalities=modalities)
            yield NotAudited(listed.key, why) if why else listed

    def headers(self, listed: Listed) -> Sequence[Header]:
        """What C-FIND answers for each image, its series and its study.

        Of peers that answer less, one header for each series or for the study alone.
        """
        inventory = self._take_inventory(listed)
        return (inventory.headers if inventory else ()) or (listed.header,)

    def fetch(self, listed: Listed, folder: Path) -> Fetched:
        """Retrieve all images of the wanted modalities, and hold them against the listing."""
        if not is_uid(listed.key):
            return Fetched(faults={"study": "listed without a usable StudyInstanceUID"})
        return self._retrieval.fetch(listed, self._take_inventory(listed), folder)

    def close(self) -> None:
        """Release the associations."""
        self._retrieval.close()
        if self._exchange is not None:
            self._exchange.release()
            self._exchange = None

    def _modalities_of(self, answer: Answer, listed: Listed, asked: dict[str, Texts]) -> Texts:
        """Return what an answer says; else what its series say, which are asked once."""
        if answer.dataset is None:
            return []
        said = answers.texts_of(answer.dataset, "ModalitiesInStudy")
        if said or not is_uid(listed.key):
            return said
        if listed.key not in asked:  # the key is optional (PS3.4 C.6.2.1.2)
            asked[listed.key] = modalities_of(self._connected(), listed.key, self._offers)
        return asked[listed.key]

    def _take_inventory(self, listed: Listed) -> Inventory | None:
        """Ask once for a study whose headers are wanted first and then its images."""
        if not is_uid(listed.key):
            return None
        if self._inventory[0] != listed.key:
            found = take_inventory(self._connected(), listed, self._modalities, self._offers)
            self._inventory = (listed.key, found)
        return self._inventory[1]

    def _connected(self) -> Exchange:
        """Return the open association, or a new one."""
        if self._exchange is None or not self._exchange.alive:
            if self._exchange is not None:
                self._exchange.release()
            self._exchange = Exchange.open(
                self._table,
                [build_context(FIND, list(OFFERED_SYNTAXES))],
                calling_ae_title=self._calling_ae_title,
            )
        return self._exchange


def _listed(answer: Answer) -> Listed:
    dataset = answer.dataset
    if dataset is None:
        return Listed(study_key("", answer.content), Header())
    return Listed(
        key=study_key(text_of(dataset, "StudyInstanceUID"), answer.content),
        header=Header.from_dataset(dataset),
        instances=answers.number_of(dataset, "NumberOfStudyRelatedInstances"),
    )
