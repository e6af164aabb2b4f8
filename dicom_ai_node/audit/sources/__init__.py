"""The port between an audit and an archive."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.errors import PeerRefused, PeerUnavailable
from dicom_ai_node.rules import TextHeader

OTHER_STUDY = "the source sent an instance of another study"
"""Why an instance does not count as one of the study that was asked for."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the listing that is asked for at once; an audit goes on after the last whole one.

    A day where the spec gives dates, so that no archive's limit on answers cuts a listing short.
    """

    first: str = ""
    """StudyDate as YYYYMMDD, inclusive; '' with ``last`` '': not restricted."""
    last: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """One study as the source listed it."""

    key: str
    """StudyInstanceUID; where the source named none, a digest of the answer after ``listed:``."""
    header: TextHeader
    """What the answer says; for sources that hold files the header of one instance."""
    instances: int | None = None
    """NumberOfStudyRelatedInstances, None when the source does not say."""
    fault: str = ""
    """Why nothing of it can be read, '' as a rule; names the file of a folder: not for logs."""


class Omission(StrEnum):
    """Why something that a source answered, or holds, is not audited."""

    MODALITY = "other_modality"
    """A study of which every modality is a defined one and none is wanted."""
    DATES = "outside_dates"
    """A study with a StudyDate that was not asked for."""
    NOT_DICOM = "not_dicom"
    """A file of a folder that is not DICOM and does not say that it is."""


def not_audited_in_words(counts: Mapping[str, int]) -> str:
    """Return how many answers are left out, and why, for people."""
    one_and_many = {
        Omission.MODALITY: ("study of other modalities", "studies of other modalities"),
        Omission.DATES: ("study outside the dates", "studies outside the dates"),
        Omission.NOT_DICOM: ("file that is not DICOM", "files that are not DICOM"),
    }
    return ", ".join(
        f"{count} {one_and_many[Omission(why)][count != 1]}"
        for why, count in sorted(counts.items())
    )


@dataclass(frozen=True, slots=True)
class NotAudited:
    """What a source answered or holds, and the audit leaves out: counted, never audited."""

    key: str
    """As in :class:`Listed`; the same study may be listed by another answer, which counts."""
    why: Omission


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of a study."""

    files: Sequence[Path] = ()
    """Below the folder that was given, or where the source keeps them: never altered or removed."""
    expected: int | None = None
    """How many instances the source said there are."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """SOP Instance UID (or ``study``) -> why it did not come, without patient data."""


class BrokenOff(PeerUnavailable):
    """The source was lost after it had sent a part of a study."""

    def __init__(self, text: str, fetched: Fetched) -> None:
        super().__init__(text)
        self.fetched = fetched
        """That part, held against what was listed."""


class OtherStudy(PeerRefused):
    """The source answered for a study with headers of another one."""

    def __init__(self, headers: Sequence[TextHeader]) -> None:
        super().__init__(0, OTHER_STUDY)
        self.headers = headers
        """Those of the study itself."""


class Source(Protocol):
    """An archive. Every method may raise PeerUnavailable or PeerRefused: try again later."""

    name: str
    """As the spec names it."""
    holds_files: bool
    """Whether reading a header costs no transfer of pixels (a folder, the node's own spool)."""
    whole_headers: bool
    """Whether :meth:`headers` are the instances' own. A PACS answers C-FIND from its database: an
    attribute that is absent or empty there may well be in the file."""

    def probe(self) -> None:
        """Return where the source is there to be asked; costs it next to nothing."""
        ...

    def slices(self, spec: AuditSpec) -> Sequence[Slice]:
        """The parts of the listing, in a fixed order; at least one."""
        ...

    def list(self, spec: AuditSpec, part: Slice) -> Iterator[Listed | NotAudited]:
        """The studies of one part that match the spec, in a fixed order if the source has one.

        Also what was answered and does not match. A study may come more than once.
        """
        ...

    def headers(self, listed: Listed) -> Sequence[TextHeader]:
        """Headers of all instances without their pixels; none where only a fetch has them.

        A source may lack what this asks for; one study alone that is refused is an error, and so
        are headers of another one (OtherStudy, with those of the study).
        """
        ...

    def fetch(self, listed: Listed, folder: Path) -> Fetched:
        """Bring all images of the study, into ``folder`` if need be.

        BrokenOff, a PeerUnavailable, holds those that came before it.
        """
        ...

    def close(self) -> None:
        """Give back connections."""
        ...
