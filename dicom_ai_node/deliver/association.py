"""One association with a destination: what is sent over it is stored there (PS3.7 9.1.1)."""

from collections.abc import Iterable, Set
from pathlib import Path
from typing import NamedTuple

from pydicom import Dataset
from pydicom.uid import RLELossless
from pynetdicom import _config, build_context

from dicom_ai_node.dicom.classes import SECONDARY_CAPTURE
from dicom_ai_node.dicom.syntaxes import OFFERED_SYNTAXES
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.peer.requestor import Association, Peer, status_of

# A data set that is sent from a path goes out as it lies there; others are not concerned.
_config.STORE_SEND_CHUNKED_DATASET = True


class Offer(NamedTuple):
    """A presentation context to be proposed (PS3.8 9.3.2.2)."""

    sop_class_uid: str
    syntaxes: tuple[str, ...] = tuple(map(str, OFFERED_SYNTAXES))
    """Transfer syntaxes of which the peer accepts one."""


def offers_for(sop_class_uid: str) -> tuple[Offer, ...]:
    """Return the presentation contexts in which reports of one class are proposed.

    A Secondary Capture is compressed by run lengths and sent so where the peer takes it; a peer
    that does not accept RLE Lossless has the other context, in which it gets native pixels.
    """
    native = Offer(sop_class_uid)
    if sop_class_uid != SECONDARY_CAPTURE:
        return (native,)
    return Offer(sop_class_uid, (str(RLELossless),)), native


class StoreAssociation(Association):
    """An open association over which objects are stored."""

    def answers_for(self, offers: Set[Offer]) -> bool:
        """Whether the peer need not be asked anew what it does with ``offers``.

        Also when it accepted none of them: no new association would end better.
        """
        proposed = {
            Offer(str(context.abstract_syntax), tuple(map(str, context.transfer_syntax)))
            for context in self._handle.requestor.requested_contexts
        }
        return offers <= proposed and (self.alive or not self.accepted)

    def takes(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        """Whether the peer accepted the class in that transfer syntax."""
        return any(
            context.abstract_syntax == sop_class_uid
            and context.transfer_syntax[0] == transfer_syntax_uid
            for context in self._handle.accepted_contexts
        )

    def store(self, dataset: Dataset) -> tuple[int, str]:
        """Send one object by C-STORE; return the status and the peer's Error Comment.

        The data set is encoded anew when its transfer syntax was not the one accepted, and
        decompressed where the peer takes native pixels alone.

        Raises PeerUnavailable: no valid answer came; whether the object was stored is not known;
        UnreadableInstance: the data set cannot be encoded; nothing was sent.
        """
        try:
            syntax = dataset.file_meta.TransferSyntaxUID
            if syntax.is_compressed and not self.takes(dataset.SOPClassUID, syntax):
                dataset.decompress(generate_instance_uid=False)
            answer = self._ask(self._handle.send_c_store, dataset)
        except (AttributeError, ValueError, RuntimeError) as error:
            raise UnreadableInstance("the object cannot be encoded") from error
        return status_of(answer)

    def store_file(self, path: Path) -> tuple[int, str]:
        """Send the data set of a DICOM file byte for byte, as :meth:`store` does with an object.

        Its class and transfer syntax must be one that the peer :meth:`takes`.

        Raises PeerUnavailable: as there; UnreadableInstance: the file cannot be read; nothing was
        sent.
        """
        try:
            answer = self._ask(self._handle.send_c_store, path)
        except (AttributeError, ValueError, OSError) as error:
            raise UnreadableInstance("the file cannot be sent as it is") from error
        return status_of(answer)


def connect(
    destination: Peer, offers: Iterable[Offer], *, calling_ae_title: str
) -> StoreAssociation:
    """Open an association that proposes ``offers``, each in a presentation context of its own.

    Raises PeerUnavailable: unknown host, no connection, rejected, aborted or no answer: the message
    says which.
    """
    contexts = [build_context(uid, list(syntaxes)) for uid, syntaxes in offers]
    return StoreAssociation.open(destination, contexts, calling_ae_title=calling_ae_title)
