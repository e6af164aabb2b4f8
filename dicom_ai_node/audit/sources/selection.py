"""What is asked of every source, and how its answers are held against that.

Archives and consoles write Modality and ModalitiesInStudy (PS3.3 C.7.3.1.1.1) as ``cr``, ``CR/SR``
or ``CR,SR``, pad with NUL and blanks of every kind, and use codes that DICOM does not define. A
study is left out only where every code that is written is a defined one of something else: what
cannot be read speaks for keeping the study.
"""

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import Listed, NotAudited, Omission, Slice
from dicom_ai_node.dicom.uids import clean_uid
from dicom_ai_node.rules import TextHeader

_EARLIEST = date(1970, 1, 1)
"""No archive has many studies from before."""
_DAY = re.compile(r"[0-9]{8}")
_TERMS = """
    ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC
    HD IO IOL IVOCT IVUS KER KO LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA
    PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT
    RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC
    AS CD CF CP CS DD DF DM DS EC FA FS LP MA MS OPR ST VF
"""
"""Defined Terms of Modality; those of the last line are retired."""
_DEFINED = frozenset(_TERMS.split())
_RADIOGRAPH = frozenset({"DR", "RG", "RX", "XR"})
"""Says that it is a radiograph and not of which of the two kinds: DR is no Defined Term and common,
RG (radiographic imaging) is one and is used for both."""
_RADIOGRAPHY = frozenset({"CR", "DX"})
_BETWEEN = re.compile(r"[\s\0\\/,;|+&]+")
_CODE = re.compile(r"[A-Z0-9]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The studies that a spec asks for: peers ignore what they cannot match.

    What cannot be read, or is not said, speaks for a study.
    """

    spec: AuditSpec

    def why_not(self, *, study_date: str, modalities: Iterable[str] = ()) -> Omission | None:
        """Return why a study is left out, None where it is wanted."""
        if names_wanted(modalities, self.spec.modalities) is False:
            return Omission.MODALITY
        day, asked = study_date.strip(" \0"), whole(self.spec)
        early = bool(asked.first) and day < asked.first
        late = bool(asked.last) and day > asked.last
        return Omission.DATES if _DAY.fullmatch(day) and (early or late) else None

    def first(self, headers: Iterable[TextHeader]) -> TextHeader | None:
        """Return the first header of a study whose StudyDate is wanted; None where none is.

        Without a header, as of files that have gone meanwhile, an empty one.
        """
        said = [*headers] or [TextHeader()]
        dates = ((header, self.why_not(study_date=header.clean("StudyDate"))) for header in said)
        return next((one for one, why in dates if why is None), None)


class DistinctStudies:
    """The studies of a listing that are audited, each once, and what is left out of it."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._listed: set[str] = set()
        self._omitted: dict[str, Omission] = {}

    def of(self, answers: Iterable[Listed | NotAudited]) -> Iterator[Listed]:
        """Return the studies that are audited; no more than the audit may have."""
        for answer in answers:
            if isinstance(answer, NotAudited):
                self._omitted[answer.key] = answer.why
            elif answer.key not in self._listed:
                self._listed.add(answer.key)
                yield answer
            if self._limit is not None and len(self._listed) >= self._limit:
                return

    def omitted(self) -> Mapping[str, Omission]:
        """Return what is not audited, by key: a study that another answer lists is none of it."""
        return {key: why for key, why in self._omitted.items() if key not in self._listed}


def days(spec: AuditSpec) -> tuple[Slice, ...]:
    """Return a slice for each day, and an open one where the spec leaves an end open.

    An archive without dates is asked for at once, so that studies without a date are listed too:
    no query by date finds those.
    """
    first, last = spec.first_date, spec.last_date
    if first is None:
        return (Slice(last=_text(last)) if last else Slice(),)
    # Studies dated in the future are a finding, and come last.
    beyond = () if last else (Slice(first=_text(max(first, spec.today + timedelta(days=1)))),)
    length = ((last or spec.today) - first).days + 1
    each = [_text(first + timedelta(days=number)) for number in range(length)]
    return tuple(Slice(day, day) for day in each) + beyond


def whole(spec: AuditSpec) -> Slice:
    """Return all that the spec asks for as one slice."""
    first, last = spec.first_date, spec.last_date
    return Slice(_text(first) if first else "", _text(last) if last else "")


def date_range(part: Slice) -> str:
    """Return the slice as a range match of StudyDate (PS3.4 C.2.2.2.5), '' for any."""
    if part.first == part.last:
        return part.first
    return f"{part.first}-{part.last}"


def study_key(uid: str, content: bytes) -> str:
    """Return the key of a study: its UID, or a digest of ``content`` where that is none."""
    return clean_uid(uid) or f"listed:{hashlib.sha256(content).hexdigest()}"


def count_in(text: str) -> int | None:
    """Return the count that a source states, None where it states none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def halves(part: Slice, today: date) -> tuple[Slice, Slice] | None:
    """Return a window of dates as two, None where it cannot be cut; open ends stay open."""
    first = _date(part.first) if part.first else min(_EARLIEST, _date(part.last or _text(today)))
    last = _date(part.last) if part.last else max(today, first)
    if first >= last:
        return None
    middle = first + (last - first) // 2
    return Slice(part.first, _text(middle)), Slice(_text(middle + timedelta(days=1)), part.last)


def _text(day: date) -> str:
    return f"{day:%Y%m%d}"


def _date(text: str) -> date:
    return datetime.strptime(text, "%Y%m%d").date()


def names_wanted(values: Iterable[str], wanted: Collection[str]) -> bool | None:
    """Return whether one of ``values`` names a wanted modality; None where they do not say.

    Compared without case and padding; a value may hold several codes with anything between them.
    ``wanted`` are Defined Terms, or private codes, in upper case.
    """
    texts = [unicodedata.normalize("NFKC", text).upper() for text in values]
    written = [_CODE.findall(word) for text in texts for word in _BETWEEN.split(text) if word]
    codes = {code for word in written for code in word}
    if codes & set(wanted) or any(text.strip(" \0") in wanted for text in texts):
        return True
    if codes & _RADIOGRAPH and _RADIOGRAPHY & set(wanted):
        return True
    legible = all(written)
    return False if codes and legible and codes <= _DEFINED | _RADIOGRAPH else None
