"""One report or copy to one destination: which file, read, sent, and what the answer means."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info

from dicom_ai_node.deliver.association import Association, Offer
from dicom_ai_node.deliver.status import Verdict, judge
from dicom_ai_node.dicom.status import SOP_CLASS_NOT_SUPPORTED, describe_store
from dicom_ai_node.errors import PeerRefused, StorageError, UnreadableInstance
from dicom_ai_node.peer import name_of
from dicom_ai_node.store.reports import StoredFile


@dataclass(frozen=True, slots=True)
class Sent:
    """The acknowledgement of a report."""

    file: StoredFile
    """Which of the report's files the destination has."""
    status: int
    """Success, a warning (PS3.4 B.2.3), or 0x0111 when the destination had it already."""


def send(
    association: Association, files: Sequence[StoredFile], *, spool: Path, preferred: str = ""
) -> Sent:
    """Send a report in the first SOP class that the destination takes.

    ``files`` are the same report in several SOP classes, best first; the ``preferred`` class goes
    before all. A peer may accept a presentation context and yet refuse the class of the object
    (0x0122, A9xx): then the next class is tried.

    Raises
    ------
    PeerRefused
        The destination answered, and has not stored it. Also when it accepted no presentation
        context for any of the classes, with the status 0x0122.
    PeerUnavailable
        The association was lost; whether the object was stored is not known.
    UnreadableInstance
        The report's file is missing or damaged.
    StorageError
        The whole spool is missing.
    """
    refusal = None
    for file in sorted(files, key=lambda file: file.sop_class_uid != preferred):
        if file.sop_class_uid not in association.accepted:
            continue
        status, comment = association.store(read_report(spool, file))
        verdict = judge(status)
        if verdict is Verdict.STORED:
            return Sent(file, status)
        text = f"{describe_store(status)} for {name_of(file.sop_class_uid)}"
        refusal = PeerRefused(status, text, comment)
        if verdict is not Verdict.OTHER_CLASS:
            break
    if refusal is None:
        names = ", ".join(name_of(file.sop_class_uid) for file in files)
        refusal = PeerRefused(
            SOP_CLASS_NOT_SUPPORTED, f"no presentation context was accepted; proposed: {names}"
        )
    raise refusal


def send_copy(association: Association, file: StoredFile, *, spool: Path) -> Sent:
    """Send a copy of an image byte for byte, in its own SOP class and transfer syntax.

    Raises
    ------
    PeerRefused
        As :func:`send` does. Also when the destination does not take that transfer syntax: a copy
        is never transcoded.
    PeerUnavailable
        The association was lost; whether the object was stored is not known.
    UnreadableInstance
        The copy's file is missing or damaged.
    StorageError
        The whole spool is missing.
    """
    offer = offer_of(spool, file)
    (syntax,) = offer.syntaxes
    name = name_of(file.sop_class_uid)
    if not association.takes(file.sop_class_uid, syntax):
        raise PeerRefused(
            SOP_CLASS_NOT_SUPPORTED,
            f"no presentation context was accepted for {name} in {name_of(syntax)}, and a copy is "
            "never transcoded",
        )
    status, comment = association.store_file(spool / file.path)
    if judge(status) is not Verdict.STORED:
        raise PeerRefused(status, f"{describe_store(status)} for {name}", comment)
    return Sent(file, status)


def offer_of(spool: Path, file: StoredFile) -> Offer:
    """Return the one presentation context that the copy in ``file`` can travel in.

    Raises
    ------
    UnreadableInstance
        It is missing, damaged, or not the object that its row names.
    StorageError
        The whole spool is missing: not a fault of this copy.
    """
    with _named(spool, file) as path:
        meta = read_file_meta_info(path)
        _check(file, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID)
        return Offer(file.sop_class_uid, (str(meta.TransferSyntaxUID),))


def read_report(spool: Path, file: StoredFile) -> Dataset:
    """Return the data set of a report's file.

    Raises
    ------
    UnreadableInstance
        It is missing, damaged, or not the object that its row names.
    StorageError
        The whole spool is missing: not a fault of this report.
    """
    with _named(spool, file) as path:
        dataset = dcmread(path)
        _check(file, dataset.SOPClassUID, dataset.SOPInstanceUID)
        return dataset


@contextmanager
def _named(spool: Path, file: StoredFile) -> Iterator[Path]:
    """Give the path of a file; whatever goes wrong in reading it says which one it is."""
    if not spool.is_dir():
        raise StorageError(f"spool: {spool} is not there")
    try:
        yield spool / file.path
    except UnreadableInstance:
        raise
    except OSError as error:
        raise UnreadableInstance(f"{file.path}: {error.strerror or error}") from error
    except Exception as error:
        # pydicom raises anything on a damaged file, and its text may quote values.
        raise UnreadableInstance(
            f"{file.path}: not a usable DICOM file ({type(error).__name__})"
        ) from error


def _check(file: StoredFile, sop_class_uid: object, sop_instance_uid: object) -> None:
    if (str(sop_class_uid), str(sop_instance_uid)) != (file.sop_class_uid, file.sop_instance_uid):
        raise UnreadableInstance(f"{file.path}: holds another object than its row says")
