"""What a PACS says of one study at the levels below: its series and images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicom_ai_node.audit.sources import Listed, cfind
from dicom_ai_node.audit.sources.remote import Image, OptionalService
from dicom_ai_node.audit.sources.selection import names_wanted
from dicom_ai_node.dicom.status import cannot_process, does_not_match_class
from dicom_ai_node.dicom.uids import clean_uid
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.errors import PeerRefused
from dicom_ai_node.peer.exchange import Exchange
from dicom_ai_node.rules import TextHeader

Services = Mapping[str, OptionalService]
"""Level of C-FIND -> whether the peer answers it, which below STUDY some do not."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of wanted images."""

    uid: str
    header: TextHeader
    count: int | None
    images: tuple[Image, ...]
    """Empty where the peer lists none, which it need not."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The wanted part of a study."""

    series: tuple[Series, ...]
    all_wanted: bool
    """Whether the study has no other series, as far as the peer says."""
    count: int | None
    """Instances that the peer says there are; None when it does not."""

    @property
    def images(self) -> tuple[Image, ...]:
        """The wanted images of all series."""
        return tuple(image for one in self.series for image in one.images)

    @property
    def uids(self) -> frozenset[str]:
        """Their SOP Instance UIDs; empty unless every series had its images listed."""
        if not all(one.images for one in self.series):
            return frozenset()
        return frozenset(image.sop_instance_uid for image in self.images)

    @property
    def headers(self) -> tuple[TextHeader, ...]:
        """The header of each image, of each series where no images were listed."""
        return tuple(
            header
            for one in self.series
            for header in ([image.header for image in one.images] or [one.header])
        )


def take_inventory(
    exchange: Exchange, listed: Listed, modalities: Sequence[str], services: Services
) -> Inventory | None:
    """Ask for series and images; None where the peer answers no query of series.

    A series whose modality is not said counts as wanted. Raises PeerUnavailable where the
    association was lost, PeerRefused where the peer answers such queries, and not of this study.
    """
    found = _ask(exchange, services, "SERIES", cfind.SERIES, StudyInstanceUID=listed.key)
    if not found:
        return None
    wanted = [one for one in found if _is_wanted(one, modalities)]
    series = tuple(_series(exchange, services, listed, one) for one in wanted)
    counts = [len(one.images) or one.count for one in series]
    known = [one for one in counts if one is not None]
    all_wanted = len(wanted) == len(found)
    count = sum(known) if len(known) == len(counts) else listed.instances if all_wanted else None
    return Inventory(series, all_wanted, count)


def modalities_of(exchange: Exchange, study: str, services: Services) -> list[str]:
    """Return the modalities of a study's series; none where the peer does not say."""
    keys = ("SeriesInstanceUID", "Modality")
    try:
        found = _ask(exchange, services, "SERIES", keys, StudyInstanceUID=study)
    except PeerRefused:
        return []
    return sorted({text for one in found for text in cfind.texts_of(one, "Modality")})


def _series(exchange: Exchange, services: Services, listed: Listed, answer: Dataset) -> Series:
    uid = clean_uid(text_of(answer, "SeriesInstanceUID"))
    header = cfind.below(listed.header, answer)
    found = _ask(
        exchange,
        services,
        "IMAGE",
        cfind.IMAGE,
        StudyInstanceUID=listed.key,
        SeriesInstanceUID=uid,
    )
    images = tuple(
        Image(
            sop_instance_uid=sop_uid,
            sop_class_uid=clean_uid(text_of(one, "SOPClassUID")),
            series_instance_uid=uid,
            header=cfind.below(header, one),
        )
        for one in found
        if (sop_uid := clean_uid(text_of(one, "SOPInstanceUID")))
    )
    return Series(uid, header, cfind.number_of(answer, "NumberOfSeriesRelatedInstances"), images)


def _is_wanted(series: Dataset, modalities: Sequence[str]) -> bool:
    said = names_wanted(cfind.texts_of(series, "Modality"), modalities)
    return said is not False and bool(clean_uid(text_of(series, "SeriesInstanceUID")))


def _is_of(answer: Dataset | None, matching: Mapping[str, str]) -> bool:
    """Whether an answer names no other study or series than it was asked for: peers ignore keys."""
    if answer is None:
        return True
    said = {keyword: clean_uid(text_of(answer, keyword)) for keyword in matching}
    return all(said[keyword] in ("", asked) for keyword, asked in matching.items())


def _ask(
    exchange: Exchange, services: Services, level: str, keys: Sequence[str], **matching: str
) -> Sequence[Dataset]:
    """Return the answers; none where the peer does not answer this level of any study.

    Nothing of a study that is listed, or no data set, is as good as a refusal.
    """
    service, study = services[level], matching["StudyInstanceUID"]
    try:
        found = [
            one.dataset
            for one in exchange.find(cfind.query(level, keys, **matching))
            if _is_of(one.dataset, matching)
        ]
    except PeerRefused as error:
        other_class = does_not_match_class(error.status)
        # Or that it is unable: a peer need not know why it cannot answer a level.
        may_lack = other_class or cannot_process(error.status)
        if may_lack and service.is_missing(study, certain=other_class):
            return ()
        raise
    if not found:
        if service.is_missing(study, certain=False):
            return ()
        raise PeerRefused(0, f"the peer lists nothing at {level} level of a study that it has")
    read = [one for one in found if one is not None]
    if len(read) < len(found):
        raise PeerRefused(0, f"the peer lists at {level} level what is no data set")
    service.answered()
    return read
