"""C-FIND of a modality worklist (PS3.4 annex K)."""

import time
from collections.abc import Mapping
from contextlib import closing
from itertools import islice

from pydicom import Dataset
from pynetdicom import build_context

from dicom_ai_node.dicom.classes import WORKLIST
from dicom_ai_node.dicom.syntaxes import OFFERED_SYNTAXES
from dicom_ai_node.errors import PeerUnavailable
from dicom_ai_node.peer.association import Peer
from dicom_ai_node.peer.exchange import Exchange

_RETURNED = (
    *("SpecificCharacterSet", "AccessionNumber", "PatientID", "IssuerOfPatientID"),
    *("PatientBirthDate", "PatientSex", "PatientAge", "StudyInstanceUID"),
)
_STEP = ("Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate")
"""Of the step nothing is wanted, but some worklists refuse a query without its sequence."""
_MOST = 100
"""Answers that are read. Who has more to say of one study ignores what it was asked for."""


def ask_worklist(
    peer: Peer, matching: Mapping[str, str], *, calling_ae_title: str, deadline: float
) -> list[Dataset]:
    """Return what is scheduled where ``matching`` holds, but for answers that are no data sets.

    A worklist need not match on every key (PS3.4 K.2.2.1), and then answers everything that it
    has: who asks has to look at the answers. ``deadline`` is in the time of monotonic().

    Raises
    ------
    PeerRefused
        It knows no worklist, or does not take the query.
    PeerUnavailable
        No association, or no complete answer before the deadline.
    """
    if time.monotonic() >= deadline:
        raise PeerUnavailable(f"{peer.ae_title} at {peer.host}:{peer.port} took all of its time")
    contexts = [build_context(WORKLIST, list(OFFERED_SYNTAXES))]
    exchange = Exchange.open(peer, contexts, calling_ae_title=calling_ae_title)
    try:
        with closing(exchange.find(_query(matching), model=WORKLIST, deadline=deadline)) as found:
            answers = [one.dataset for one in islice(found, _MOST)]
    finally:
        exchange.release()
    return [one for one in answers if one is not None]


def _query(matching: Mapping[str, str]) -> Dataset:
    identifier, step = Dataset(), Dataset()
    for keyword in _RETURNED:
        setattr(identifier, keyword, matching.get(keyword, ""))
    for keyword in _STEP:
        setattr(step, keyword, "")
    identifier.ScheduledProcedureStepSequence = [step]
    return identifier
