"""From a received data set to an answer: durable file, committed row, and only then 0x0000."""

import time
from collections.abc import Callable, Collection
from typing import Any

import structlog

from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.dicom.classes import ANALYSABLE, CAPTURES
from dicom_ai_node.dicom.header import RawHeader
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.marks import created_here, is_coerced, is_own_report
from dicom_ai_node.dicom.status import SUCCESS
from dicom_ai_node.dicom.uids import UUID_ROOT
from dicom_ai_node.errors import InstanceTooLarge, StorageError, UnreadableInstance
from dicom_ai_node.receive.commits import Commits, Entry
from dicom_ai_node.receive.connection import AssociationRows, Connection
from dicom_ai_node.receive.incoming import Incoming
from dicom_ai_node.receive.landing import Landing
from dicom_ai_node.receive.requests import (
    Identity,
    StoreAnswer,
    StoreRequest,
    identity_of,
    read_header,
    refusal,
)
from dicom_ai_node.store import Database, forwards, instances, reports
from dicom_ai_node.store.instances import Filed, StoredInstance

_log = structlog.get_logger()


class Filing:
    """Answers C-STORE requests.

    With ``forwards`` what is filed is sent on, too. ``analysed`` are the SOP classes that are more
    than filed.

    ``checkpoint`` is told each step that was reached, so that a test can end the process there:
    ``synced`` (content on disk), ``named`` (under its durable name) and ``recorded`` (committed).
    """

    def __init__(
        self,
        *,
        db: Database,
        landing: Landing,
        rows: AssociationRows,
        settings: StudySettings,
        limits: Limits = DEFAULT,
        forwards: bool = False,
        analysed: Collection[str] = ANALYSABLE,
        clock: Callable[[], float] = time.time,
        checkpoint: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._db = db
        self._landing = landing
        self._rows = rows
        self._commits = Commits(db, settings, forward=forwards)
        self._limits = limits
        self._forwards = forwards
        self.analysed = analysed
        self._clock = clock
        self._checkpoint = checkpoint

    def store(self, request: StoreRequest, incoming: Incoming, peer: Connection) -> StoreAnswer:
        """File the instance and return what the response says. Never raises.

        0x0000 only when file and row are durable, or when the object is a report of ours.
        """
        log = _log.bind(calling_ae=peer.calling_ae, address=peer.address)
        try:
            self._store(request, incoming, peer, log)
            return StoreAnswer(SUCCESS)
        except UnreadableInstance as error:
            self._quarantine(incoming, str(error), peer, log)
            return refusal(error)
        except Exception as error:  # noqa: BLE001 - the association and its sender must live on
            answer = refusal(error)
            bound = log.bind(status=f"{answer.status:04X}", bytes=incoming.size)
            match error:
                case InstanceTooLarge():
                    bound.warning("instance_refused", error=str(error))
                case StorageError() | OSError():
                    bound.error("instance_refused", error=str(error))
                case _:
                    bound.error("instance_failed", error=_harmless(error))
            return answer
        finally:
            _discard(incoming)

    def _store(self, request: StoreRequest, incoming: Incoming, peer: Connection, log: Any) -> None:
        started = time.perf_counter()
        if incoming.failure is not None:
            raise incoming.failure
        request.check()
        header = read_header(
            incoming.path,
            offset=incoming.offset,
            transfer_syntax=request.transfer_syntax_uid,
            limits=self._limits,
        )
        identity = _identify(request, header)
        if self._is_own(request, header):
            log.info("own_report_ignored", instance=identity.sop_instance_uid)
            return
        stored = self._make_durable(request, identity, incoming, peer)
        self._rows.ensure(peer)
        filed = self._commits.file(
            Entry(
                stored,
                identity.study_instance_uid,
                analysable=request.sop_class_uid in self.analysed,
                received_at=self._clock(),
            )
        )
        self._checkpoint("recorded")
        if not self._landing.has(stored.path):
            # Retention removed an earlier copy of the same content between naming and recording.
            raise StorageError("spool: file removed while it was filed")
        log.debug(
            "instance_stored",
            study=identity.study_instance_uid,
            instance=identity.sop_instance_uid,
            filed=str(filed),
            bytes=incoming.size,
            seconds=round(time.perf_counter() - started, 4),
        )
        if self._forwards and filed is Filed.NEW_VERSION:
            self._warn_of_two_versions(identity, log)

    def _warn_of_two_versions(self, identity: Identity, log: Any) -> None:
        """Say that what came is kept, and will not follow the version that was forwarded."""
        study, instance = identity.study_instance_uid, identity.sop_instance_uid
        try:
            if forwards.came_too_late(self._db, instance, study):
                log.warning("version_not_forwarded", study=study, instance=instance)
        except StorageError as error:  # it is filed, and that is the answer
            log.warning("version_not_compared", study=study, instance=instance, error=str(error))

    def _make_durable(
        self, request: StoreRequest, identity: Identity, incoming: Incoming, peer: Connection
    ) -> StoredInstance:
        incoming.sync()
        self._checkpoint("synced")
        path = self._landing.keep(incoming)
        self._checkpoint("named")
        return StoredInstance(
            image=identity.image,
            transfer_syntax_uid=request.transfer_syntax_uid,
            path=path,
            digest=incoming.digest,
            size=incoming.size,
            calling_ae=peer.calling_ae,
            association=peer.key,
        )

    def _is_own(self, request: StoreRequest, header: RawHeader) -> bool:
        """Whether a peer sends us our own report or copy, or an image with a value of ours in it.

        Analysing a report would never end, and what an image was filled with is no evidence of
        what belongs there.
        """
        if self._forwards and forwards.is_coerced(self._db, request.sop_instance_uid):
            return is_coerced(header.dataset())
        # Of a class that only a modality makes: of ours, copies of its images alone travel as one.
        is_image = request.sop_class_uid in self.analysed and request.sop_class_uid not in CAPTURES
        if is_image and not request.sop_instance_uid.startswith(UUID_ROOT):
            return False
        if reports.is_own(self._db, request.sop_instance_uid):
            return True
        found = header.dataset()
        return created_here(found) if is_image else is_own_report(found)

    def _quarantine(self, incoming: Incoming, reason: str, peer: Connection, log: Any) -> None:
        """Keep what could not be filed for a person. The sender has its copy: best effort."""
        try:
            incoming.sync()
            path, is_new = self._landing.quarantine(incoming, reason)
            log.warning("instance_quarantined", status="C000", reason=reason, repeated=not is_new)
            if is_new:
                instances.record_quarantine(
                    self._db,
                    path=path,
                    calling_ae=peer.calling_ae,
                    reason=reason,
                    now=self._clock(),
                )
        except (StorageError, OSError) as error:
            log.error("instance_not_quarantined", status="C000", reason=reason, error=str(error))


def _identify(request: StoreRequest, header: RawHeader) -> Identity:
    identity = identity_of(header)
    if request.sop_class_uid != identity.sop_class_uid:
        raise UnreadableInstance("SOPClassUID is not the Affected SOP Class UID")
    if request.sop_instance_uid != identity.sop_instance_uid:
        raise UnreadableInstance("SOPInstanceUID is not the Affected SOP Instance UID")
    return identity


def _discard(incoming: Incoming) -> None:
    try:
        incoming.discard()
    except OSError as error:
        _log.warning("leftover_in_spool", error=str(error))


def _harmless(error: Exception) -> str:
    """Type and place of an error, without its text: that may quote the data set."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    return f"{type(error).__name__} at {place}"
