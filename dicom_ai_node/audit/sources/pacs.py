"""A PACS: C-FIND lists studies, series and images, C-GET or C-MOVE brings (PS3.4 C, Study Root)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydicom import Dataset

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import Fetched, Listed, Slice, cfind
from dicom_ai_node.audit.sources.remote import NO_STUDY, Image, OptionalService, RemoteSource
from dicom_ai_node.audit.sources.retrieval import Inventory, PacsAssociation, Retrieval, Series
from dicom_ai_node.audit.sources.selection import names_wanted, study_key
from dicom_ai_node.config.peers import PacsTable
from dicom_ai_node.dicom.classes import FIND
from dicom_ai_node.dicom.status import cannot_process, does_not_match_class
from dicom_ai_node.dicom.uids import clean_uid, is_uid
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.errors import PeerRefused
from dicom_ai_node.peer.exchange import Match
from dicom_ai_node.rules import TextHeader


class Pacs(RemoteSource[Inventory]):
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
        # Below STUDY some peers answer nothing.
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
        keys = ("SeriesInstanceUID", "Modality")
        try:
            found = self._ask("SERIES", keys, StudyInstanceUID=study_uid)
        except PeerRefused:
            return []
        return sorted({text for series in found for text in cfind.texts_of(series, "Modality")})

    def _take_inventory(self, listed: Listed) -> Inventory:
        """Ask for series and images; a series whose modality is not said counts as wanted.

        Raises PeerUnavailable where the association was lost, PeerRefused where the peer answers
        such queries, and not of this study.
        """
        found = self._ask("SERIES", cfind.SERIES, StudyInstanceUID=listed.key)
        wanted = [series for series in found if self._is_wanted(series)]
        series = tuple(self._series(listed, answer) for answer in wanted)
        counts = [len(inside.images) or inside.count for inside in series]
        known = [count for count in counts if count is not None]
        all_wanted = len(wanted) == len(found)
        count = listed.instances if all_wanted else None
        if found and len(known) == len(counts):
            count = sum(known)
        return Inventory(series, all_wanted, count)

    def _series(self, listed: Listed, answer: Dataset) -> Series:
        uid = clean_uid(text_of(answer, "SeriesInstanceUID"))
        header = cfind.below(listed.header, answer)
        found = self._ask("IMAGE", cfind.IMAGE, StudyInstanceUID=listed.key, SeriesInstanceUID=uid)
        images = tuple(
            Image(
                sop_uid=sop_uid,
                sop_class_uid=clean_uid(text_of(image, "SOPClassUID")),
                series_uid=uid,
                header=cfind.below(header, image),
            )
            for image in found
            if (sop_uid := clean_uid(text_of(image, "SOPInstanceUID")))
        )
        count = cfind.number_of(answer, "NumberOfSeriesRelatedInstances")
        return Series(uid, header, count, images)

    def _is_wanted(self, series: Dataset) -> bool:
        said = names_wanted(cfind.texts_of(series, "Modality"), self._modalities)
        return said is not False and bool(clean_uid(text_of(series, "SeriesInstanceUID")))

    def _ask(self, level: str, keys: Sequence[str], **matching: str) -> Sequence[Dataset]:
        """Return the answers; none where the peer does not answer this level of any study.

        Nothing of a study that is listed, or no data set, is as good as a refusal.
        """
        service, study_uid = self._levels[level], matching["StudyInstanceUID"]
        try:
            found = [
                match.dataset
                for match in self._queries.exchange().find(cfind.query(level, keys, **matching))
                if _is_of(match.dataset, matching)
            ]
        except PeerRefused as error:
            other_class = does_not_match_class(error.status)
            # Or that it is unable: a peer need not know why it cannot answer a level.
            may_lack = other_class or cannot_process(error.status)
            if may_lack and service.is_missing(study_uid, certain=other_class):
                return ()
            raise
        if not found:
            if service.is_missing(study_uid, certain=False):
                return ()
            raise PeerRefused(0, f"the peer lists nothing at {level} level of a study that it has")
        read = [answer for answer in found if answer is not None]
        if len(read) < len(found):
            raise PeerRefused(0, f"the peer lists at {level} level what is no data set")
        service.answered()
        return read

    def _retrieve(self, listed: Listed, inventory: Inventory, folder: Path) -> Fetched:
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


def _is_of(answer: Dataset | None, matching: Mapping[str, str]) -> bool:
    """Whether an answer names no other study or series than it was asked for: peers ignore keys."""
    return answer is None or all(
        clean_uid(text_of(answer, keyword)) in ("", asked) for keyword, asked in matching.items()
    )
