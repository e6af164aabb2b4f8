"""Sends by C-STORE (PS3.4 Annex B), over an association that is kept between batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info

from dicom_ai_node.config import Config
from dicom_ai_node.deliver.association import Offer, StoreAssociation, connect, offers_for
from dicom_ai_node.deliver.sender import DeliveryAnswer, DeliveryOutcome
from dicom_ai_node.dicom.classes import REPORTS, SECONDARY_CAPTURE, VERIFICATION
from dicom_ai_node.dicom.status import (
    DUPLICATE_SOP_INSTANCE,
    NO_SUCH_SOP_CLASS,
    RESOURCE_LIMITATION,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    describe_store,
    does_not_match_class,
    is_out_of_resources,
    is_warning,
)
from dicom_ai_node.errors import StorageError, UnreadableInstance
from dicom_ai_node.peer.requestor import name_of
from dicom_ai_node.store.deliveries import ClaimedDelivery
from dicom_ai_node.store.reports import COPY, FORWARDED, StoredFile

_CLASSES = {"sr": REPORTS, "sc": (SECONDARY_CAPTURE,), "saliency": (SECONDARY_CAPTURE,)}
"""SOP classes that a kind of report may travel in, best first."""
_AS_IT_LIES = frozenset({COPY, *FORWARDED})
"""Kinds of which the file goes out byte for byte, never in another class or syntax."""
_PER_ASSOCIATION = 200  # some archives file what came when the association ends


class DimseSender:
    """The :class:`.sender.Sender` of a destination that is an Application Entity."""

    def __init__(self, config: Config, name: str) -> None:
        self._spool: Path = config.storage.spool.absolute()
        self._calling = config.node.ae_title
        self._destination = config.destinations[name]
        self._association: StoreAssociation | None = None
        self._sent = 0

    def open(self, batch: Sequence[ClaimedDelivery]) -> None:
        """Have an association with the presentation contexts that ``batch`` needs."""
        needed = {offer for claimed in batch for offer in self._offers(claimed)}
        current = self._association
        if current and current.answers_for(needed) and self._sent < _PER_ASSOCIATION:
            return
        self.close()
        usual = [
            offer
            for kind in self._destination.send
            for uid in _CLASSES[kind]
            for offer in offers_for(uid)
        ]
        self._association = connect(
            self._destination,
            # PS3.8 has no association without a presentation context: files that are all bad.
            dict.fromkeys([*usual, *sorted(needed)] or [Offer(VERIFICATION)]),
            calling_ae_title=self._calling,
        )

    def send(self, claimed: ClaimedDelivery, *, preferred: str) -> DeliveryOutcome:
        """Send one delivery in its own SOP class, or in the first that the destination takes."""
        association = self._association
        assert association is not None
        try:
            if claimed.kind in _AS_IT_LIES:
                return self._send_file(association, claimed.files[0])
            return self._send_report(association, claimed.files, preferred)
        except UnreadableInstance as error:
            return DeliveryOutcome(DeliveryAnswer.UNREADABLE, error=str(error))
        finally:
            self._sent += 1

    def close(self) -> None:
        """Release the association, if there is one."""
        if self._association is not None:
            self._association.release()
        self._association = None
        self._sent = 0

    def _offers(self, claimed: ClaimedDelivery) -> list[Offer]:
        """Return the presentation contexts that a delivery needs; none when its file is bad."""
        if claimed.kind not in _AS_IT_LIES:
            return [offer for file in claimed.files for offer in offers_for(file.sop_class_uid)]
        with suppress(UnreadableInstance):  # said when it is its turn
            return [_offer_of(self._spool, file) for file in claimed.files]
        return []

    def _send_report(
        self, association: StoreAssociation, files: Sequence[StoredFile], preferred: str
    ) -> DeliveryOutcome:
        """Send a report in the first SOP class that the destination takes.

        ``files`` are the same report in several SOP classes, best first; the ``preferred`` class
        goes before all. A peer may accept a presentation context and yet refuse the class of the
        object (0x0122, A9xx): then the next class is tried.
        """
        outcome = None
        for file in sorted(files, key=lambda file: file.sop_class_uid != preferred):
            if file.sop_class_uid in association.accepted:
                status, comment = association.store(_read_report(self._spool, file))
                outcome = _outcome(file, status, comment)
                if outcome.answer is not DeliveryAnswer.OTHER_CLASS:
                    return outcome
        names = ", ".join(name_of(file.sop_class_uid) for file in files)
        return outcome or _not_accepted(f"; proposed: {names}")

    def _send_file(self, association: StoreAssociation, file: StoredFile) -> DeliveryOutcome:
        """Send an image byte for byte, in its own SOP class and transfer syntax.

        A destination that does not take that transfer syntax does not get it: a copy is never
        transcoded.
        """
        (syntax,) = _offer_of(self._spool, file).syntaxes
        if not association.takes(file.sop_class_uid, syntax):
            wanted = f"{name_of(file.sop_class_uid)} in {name_of(syntax)}"
            return _not_accepted(f" for {wanted}, and a copy is never transcoded")
        status, comment = association.store_file(self._spool / file.path)
        return _outcome(file, status, comment)


def judge(status: int) -> DeliveryAnswer:
    """Return what the status of a C-STORE response means (PS3.4 B.2.3, PS3.7 9.1.1.1.9, Annex C).

    Defined for every status, an unknown one is a refusal. 0x0111 (duplicate SOP instance) is
    success: our UIDs stand for their content, so the object arrived with an attempt whose answer
    was lost.
    """
    if status in {SUCCESS, DUPLICATE_SOP_INSTANCE} or is_warning(status):
        return DeliveryAnswer.STORED
    if status in {NO_SUCH_SOP_CLASS, SOP_CLASS_NOT_SUPPORTED} or does_not_match_class(status):
        return DeliveryAnswer.OTHER_CLASS
    if status == RESOURCE_LIMITATION or is_out_of_resources(status):
        return DeliveryAnswer.BUSY
    return DeliveryAnswer.REFUSED


def _outcome(file: StoredFile, status: int, comment: str) -> DeliveryOutcome:
    answer, shown = judge(status), f"0x{status:04X}"
    if answer is DeliveryAnswer.STORED:
        return DeliveryOutcome(answer, file, status, shown)
    text = f"{describe_store(status)} for {name_of(file.sop_class_uid)}"
    return DeliveryOutcome(answer, None, status, shown, f"{text}: {comment}" if comment else text)


def _not_accepted(what: str) -> DeliveryOutcome:
    status, text = SOP_CLASS_NOT_SUPPORTED, f"no presentation context was accepted{what}"
    return DeliveryOutcome(DeliveryAnswer.OTHER_CLASS, None, status, f"0x{status:04X}", text)


def _offer_of(spool: Path, file: StoredFile) -> Offer:
    """Return the one presentation context that the image in ``file`` can travel in."""
    with _named(spool, file) as path:
        meta = read_file_meta_info(path)
        _check(file, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID)
        return Offer(file.sop_class_uid, (str(meta.TransferSyntaxUID),))


def _read_report(spool: Path, file: StoredFile) -> Dataset:
    with _named(spool, file) as path:
        dataset = dcmread(path)
        _check(file, dataset.SOPClassUID, dataset.SOPInstanceUID)
        return dataset


@contextmanager
def _named(spool: Path, file: StoredFile) -> Iterator[Path]:
    """Give the path of a file; whatever goes wrong in reading it says which one it is.

    Raises UnreadableInstance: it is missing, damaged, or not the object that its row names;
    StorageError: the whole spool is missing: not a fault of this file.
    """
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
        kind = type(error).__name__
        raise UnreadableInstance(f"{file.path}: not a usable DICOM file ({kind})") from error


def _check(file: StoredFile, sop_class_uid: object, sop_uid: object) -> None:
    if (str(sop_class_uid), str(sop_uid)) != (file.sop_class_uid, file.sop_instance_uid):
        raise UnreadableInstance(f"{file.path}: holds another object than its row says")
