"""One association with a destination: what is sent over it is stored there (PS3.7 9.1.1)."""

from collections.abc import Iterable, Set

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context

from dicom_ai_node import peer
from dicom_ai_node.config import Destination
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.report.identity import SC_CLASS, SR_CLASSES

VERIFICATION = "1.2.840.10008.1.1"
"""Verification (C-ECHO)."""
CLASSES_OF_KIND = {"sr": SR_CLASSES, "sc": (SC_CLASS,), "saliency": (SC_CLASS,)}

_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


class Association(peer.Association):
    """An open association over which objects are stored."""

    def answers_for(self, classes: Set[str]) -> bool:
        """Whether the peer need not be asked anew what it does with ``classes``.

        Also when it accepted none of them: no new association would end better.
        """
        return classes <= self.proposed and (self.alive or not self.accepted)

    def store(self, dataset: Dataset) -> tuple[int, str]:
        """Send one object by C-STORE; return the status and the peer's Error Comment.

        The data set is encoded anew when its transfer syntax was not the one accepted.

        Raises
        ------
        PeerUnavailable
            No valid answer came. Whether the object was stored is not known.
        UnreadableInstance
            The data set cannot be encoded; nothing was sent.
        """
        try:
            answer = self._ask(self._handle.send_c_store, dataset)
        except (AttributeError, ValueError) as error:
            raise UnreadableInstance("the object cannot be encoded") from error
        return int(answer.Status), _comment(answer)


def connect(
    destination: Destination, classes: Iterable[str], *, calling_ae_title: str
) -> Association:
    """Open an association that proposes ``classes`` in Explicit and Implicit VR Little Endian.

    Raises
    ------
    PeerUnavailable
        Unknown host, no connection, rejected, aborted or no answer: the message says which.
    """
    contexts = [build_context(uid, _SYNTAXES) for uid in classes]
    return Association.open(destination, contexts, calling_ae_title=calling_ae_title)


def _comment(answer: Dataset) -> str:
    """Return the peer's Error Comment; NUL, which C programs leave in it, is no text to SQL."""
    return str(answer.get("ErrorComment", "")).replace("\0", " ")
