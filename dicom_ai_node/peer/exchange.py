"""C-FIND, C-GET and C-MOVE as their SCU (PS3.4 C.4 and K.4, PS3.7 9.1.2 to 9.1.4).

pynetdicom's own loop over the responses gives up after a fixed time without a message. A peer that
sends a study to a third party, or one large image over a slow line, is silent for longer and well;
here only silence of everything counts. It also hides the bytes of an answer that cannot be read.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue
from pynetdicom import build_context
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE, C_STORE
from pynetdicom.dsutils import decode, encode

from dicom_ai_node.dicom.classes import FIND, GET, MOVE, WORKLIST
from dicom_ai_node.dicom.status import (
    CANCELLED,
    PENDING,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    describe_query,
    is_warning,
)
from dicom_ai_node.dicom.syntaxes import OFFERED_SYNTAXES
from dicom_ai_node.errors import PeerRefused, PeerUnavailable
from dicom_ai_node.peer.commands import Tag, comment_of, find_request
from dicom_ai_node.peer.conversation import Broken, Conversation
from dicom_ai_node.peer.requestor import Association, Peer, name_of

_POLL = 0.5
_RESPONSES = frozenset({0x8010, 0x8020, 0x8021})
"""C-GET-RSP, C-FIND-RSP and C-MOVE-RSP: some peers mistake one for another."""
_RETURNED = (
    *("SpecificCharacterSet", "AccessionNumber", "PatientID", "IssuerOfPatientID"),
    *("PatientBirthDate", "PatientSex", "PatientAge", "StudyInstanceUID"),
)
_STEP = ("Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate")
"""Of the step nothing is wanted, but some worklists refuse a query without its sequence."""
_MOST = 100
"""Answers that are read. Who has more to say of one study ignores what it was asked for."""


@dataclass(frozen=True, slots=True)
class Match:
    """One match of a C-FIND."""

    content: bytes
    """As it came."""
    dataset: Dataset | None
    """None when it is no data set."""


@dataclass(frozen=True, slots=True)
class RetrieveOutcome:
    """How a C-GET or C-MOVE ended, as the peer says."""

    status: int
    text: str
    """The status in words."""
    comment: str
    """What the peer said of it; may name a patient."""
    failed: int
    failed_uids: tuple[str, ...]

    @property
    def refused(self) -> bool:
        """Whether it is a failure, not a success, a cancellation or a warning."""
        return self.status not in {SUCCESS, CANCELLED} and not is_warning(self.status)


class Exchange(Association):
    """An association over which an archive is asked."""

    def find(
        self, identifier: Dataset, *, model: str = FIND, deadline: float = math.inf
    ) -> Generator[Match]:
        """Ask for matches; to stop before the last one ends the association.

        ``deadline``, in the time of monotonic(), ends it too, also where answers still come.

        Raises PeerRefused: it does not take the query; matches may have come before;
        PeerUnavailable: it broke off, gave no valid answer, or not all of it before the deadline.
        """
        self._refuse_unaccepted(model)
        context = self._context_of(model)
        syntax = context.transfer_syntax[0]
        encoding = (syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
        data = encode(identifier, *encoding)
        if data is None:
            raise ValueError("expected an identifier that can be encoded")
        request = find_request(model, self._next_message_id())
        with self._directly() as conversation:
            longest = self._handle.acceptor.maximum_length
            conversation.send(request, data, context.context_id, longest)
            for command, content in conversation.messages(deadline):
                status = command.number(Tag.STATUS)
                if command.field not in _RESPONSES or status is None:
                    raise PeerUnavailable(f"{self._where} answered with what is no response")
                if status in PENDING:
                    if content is not None:
                        yield Match(content, _decoded(content, *encoding))
                    continue
                conversation.is_over = True
                if status != SUCCESS:
                    text = f"{self._where} answered C-FIND with {describe_query(status)}"
                    raise PeerRefused(status, text, comment_of(command))
                return

    def get(self, identifier: Dataset) -> RetrieveOutcome:
        """Have instances sent on this association; the handler of C-STORE gets them.

        Errors of :meth:`find`; what the peer made of it is in the answer, be it a refusal.
        """
        encoding = self._send("send_c_get", GET, identifier)
        return self._outcome("C-GET", encoding, lambda: 0.0)

    def move(
        self, identifier: Dataset, destination: str, *, last_arrival: Callable[[], float]
    ) -> RetrieveOutcome:
        """Have instances sent to an AE title; ``last_arrival`` in the time of monotonic().

        Errors of :meth:`get`.
        """
        encoding = self._send("send_c_move", MOVE, identifier, destination)
        return self._outcome("C-MOVE", encoding, last_arrival)

    @contextmanager
    def _directly(self) -> Iterator[Conversation]:
        """Have the association to oneself for an exchange; one that is not over ends it."""
        if not self.alive:
            raise PeerUnavailable(f"{self._where} ended the association")
        layer = self._handle.dul
        conversation = Conversation(layer, self._where, self._timeout)
        self._inbox.claim()
        self._handle._reactor_checkpoint.clear()
        try:
            if not layer.halt():
                raise Broken
            yield conversation
        except Broken as error:
            layer.go_on()
            layer.join(self._timeout)  # it ends over what it has been told
            self._check_readable()
            raise PeerUnavailable(
                f"{self._where} ended the association instead of answering"
            ) from error
        finally:
            layer.go_on()
            if not conversation.is_over and self.alive:
                self._handle.abort()
            self._inbox.leave()
            self._handle._reactor_checkpoint.set()

    def _refuse_unaccepted(self, model: str) -> None:
        if model not in self.accepted:
            name = name_of(model)
            raise PeerRefused(SOP_CLASS_NOT_SUPPORTED, f"{self._where} does not accept {name}")

    def _context_of(self, model: str) -> Any:
        return next(
            context
            for context in self._handle.accepted_contexts
            if context.abstract_syntax == model
        )

    def _send(self, method: str, model: str, identifier: Dataset, *more: str) -> Any:
        """Send the request; return how identifiers are encoded."""
        self._refuse_unaccepted(model)
        (syntax,) = self._context_of(model).transfer_syntax
        # Read at each wait for a message.
        self._handle.dimse_timeout = min(self._timeout, _POLL)
        send = getattr(self._handle, method)
        self._inbox.claim()
        try:
            send(identifier, *more, query_model=model, msg_id=self._next_message_id())
        except RuntimeError as error:  # ended by the peer since the last message
            raise PeerUnavailable(f"{self._where} ended the association") from error
        return syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated

    def _outcome(
        self, what: str, encoding: Any, last_arrival: Callable[[], float]
    ) -> RetrieveOutcome:
        *_, message = self._messages(last_arrival)
        return RetrieveOutcome(
            status=message.Status,
            text=f"{self._where} answered {what} with {describe_query(message.Status)}",
            comment=_comment(message),
            failed=message.NumberOfFailedSuboperations or 0,
            failed_uids=_failed_uids(message.Identifier, encoding),
        )

    def _messages(
        self, last_arrival: Callable[[], float] = lambda: 0.0, *, deadline: float = math.inf
    ) -> Iterator[Any]:
        """Every response up to the final one; stores are served meanwhile."""
        finished = False
        try:
            while not finished:
                message = self._wait(last_arrival, deadline)
                if isinstance(message, C_STORE):
                    self._handle._c_store_scp(message)
                    continue
                responses = (C_FIND, C_GET, C_MOVE)
                if not isinstance(message, responses) or not message.is_valid_response:
                    raise PeerUnavailable(f"{self._where} answered with what is no response")
                finished = message.Status not in PENDING
                yield message
        finally:
            if not finished and self.alive:
                self._handle.abort()
            self._inbox.leave()
            self._handle._reactor_checkpoint.set()

    def _wait(self, last_arrival: Callable[[], float], deadline: float) -> Any:
        start = time.monotonic()
        while True:
            if time.monotonic() >= deadline:
                raise PeerUnavailable(f"{self._where} did not answer in full in the time it had")
            _, message = self._handle.dimse.get_msg(block=True)
            if message is not None:
                return message
            self._check_readable()
            if not self.alive or self._handle.acse.is_aborted() or not self._handle.dul.is_alive():
                raise PeerUnavailable(f"{self._where} ended the association instead of answering")
            silent = time.monotonic() - max(start, last_arrival())
            # The timer runs since the last PDU, be it a part of an image.
            if silent >= self._timeout and self._handle.dul.idle_timer_expired():
                raise PeerUnavailable(f"{self._where} gave no answer within {self._timeout:g} s")


def ask_worklist(
    peer: Peer, matching: Mapping[str, str], *, calling_ae_title: str, deadline: float
) -> list[Dataset]:
    """Return what is scheduled where ``matching`` holds, but for answers that are no data sets.

    A worklist need not match on every key (PS3.4 K.2.2.1), and then answers everything that it
    has: who asks has to look at the answers. ``deadline`` is in the time of monotonic().

    Raises PeerRefused: it knows no worklist, or does not take the query; PeerUnavailable: no
    association, or no complete answer before the deadline.
    """
    if time.monotonic() >= deadline:
        raise PeerUnavailable(f"{peer.ae_title} at {peer.host}:{peer.port} took all of its time")
    contexts = [build_context(WORKLIST, list(OFFERED_SYNTAXES))]
    exchange = Exchange.open(peer, contexts, calling_ae_title=calling_ae_title)
    try:
        with closing(exchange.find(_query(matching), model=WORKLIST, deadline=deadline)) as found:
            answers = [match.dataset for match in islice(found, _MOST)]
    finally:
        exchange.release()
    return [answer for answer in answers if answer is not None]


def _query(matching: Mapping[str, str]) -> Dataset:
    identifier, step = Dataset(), Dataset()
    for keyword in _RETURNED:
        setattr(identifier, keyword, matching.get(keyword, ""))
    for keyword in _STEP:
        setattr(step, keyword, "")
    identifier.ScheduledProcedureStepSequence = [step]
    return identifier


def _comment(message: Any) -> str:
    return str(message.ErrorComment or "")


def _decoded(content: bytes, implicit: bool, little: bool, deflated: bool) -> Dataset | None:
    try:
        dataset: Dataset = decode(BytesIO(content), implicit, little, deflated)
    except Exception:  # noqa: BLE001 - any bytes may come, and pydicom raises anything
        return None
    return dataset if len(dataset) else None


def _failed_uids(identifier: BytesIO | None, encoding: Any) -> tuple[str, ...]:
    """Return the Failed SOP Instance UID List (PS3.4 C.4.3.1.3.2), as far as it can be read."""
    dataset = _decoded(identifier.getvalue(), *encoding) if identifier is not None else None
    try:
        found = dataset.get("FailedSOPInstanceUIDList") if dataset is not None else None
    except Exception:  # noqa: BLE001 - a value of the peer's, which pydicom converts only now
        return ()
    values = found if isinstance(found, MultiValue | list) else [found]
    return tuple(str(uid) for uid in values if uid)
