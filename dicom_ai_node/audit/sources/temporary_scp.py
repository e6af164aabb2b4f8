"""Where the instances of one study arrive, be it by C-GET or by C-MOVE, and what became of them."""

import hashlib
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_ai_node import pixels
from dicom_ai_node.audit.sources import OTHER_STUDY, Fetched
from dicom_ai_node.config.peers import PacsTable
from dicom_ai_node.dicom.part10 import file_head
from dicom_ai_node.dicom.status import CANNOT_UNDERSTAND, NOT_AUTHORISED, OUT_OF_RESOURCES, SUCCESS
from dicom_ai_node.dicom.syntaxes import ACCEPTED_SYNTAXES
from dicom_ai_node.dicom.uids import clean_uid, is_uid
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.errors import ConfigError, StorageError, UnreadableInstance
from dicom_ai_node.listening import reason
from dicom_ai_node.peer.commands import NO_UID
from dicom_ai_node.peer.upper_layer import UpperLayer
from dicom_ai_node.spool import storage_error


class IncomingFiles:
    """Takes what a peer stores, byte for byte, into the folder that is open; a C-STORE handler.

    Threads of pynetdicom call it; one study is open at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._expected: frozenset[str] = frozenset()
        self._failure: StorageError | None = None
        self.files: dict[str, Path] = {}
        """SOP Instance UID -> file of what came for the last study."""
        self.unexpected: set[str] = set()
        """SOP Instance UIDs that came and were not expected; not kept."""
        self.last_arrival = 0.0
        """monotonic() of the last instance."""

    @contextmanager
    def into(self, folder: Path, expected: Collection[str]) -> Iterator[None]:
        """Take instances meanwhile; any where ``expected`` is empty.

        Raises StorageError at the end where the folder could not take what came.
        """
        with self._lock:
            self._folder, self._expected = folder, frozenset(expected)
            self._failure, self.files, self.unexpected = None, {}, set()
        try:
            yield
        finally:
            with self._lock:
                self._folder = None
                failure = self._failure
            if failure is not None:
                raise failure

    def __call__(self, event: Any) -> int | Dataset:
        """Answer one C-STORE request with its status, and why it is refused."""
        request = event.request
        uid = str(request.AffectedSOPInstanceUID)
        if uid == NO_UID:
            return _refusal(CANNOT_UNDERSTAND, "Affected SOP Instance UID is missing")
        if request.DataSet is None:
            return _refusal(CANNOT_UNDERSTAND, "the request has no data set")
        head = file_head(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=uid,
            transfer_syntax_uid=str(event.context.transfer_syntax),
        )
        with self._lock:
            if self._folder is None:
                return _refusal(NOT_AUTHORISED, "nothing is asked for at this time")
            self.last_arrival = time.monotonic()
            if self._expected and uid not in self._expected:
                self.unexpected.add(uid)
                return _refusal(NOT_AUTHORISED, "this instance was not asked for")
            try:
                self.files[uid] = write(self._folder, uid, head, request.DataSet.getbuffer())
            except StorageError as error:
                self._failure = error
                return _refusal(OUT_OF_RESOURCES, "cannot be stored")
            return SUCCESS


class _ConnectionHandler(RequestHandler):  # type: ignore[misc]
    def _create_association(self) -> Association:
        association = super()._create_association()
        UpperLayer.install(association)
        return association


class TemporaryScp:
    """Listens on ``move_port`` from its making to :meth:`close`."""

    def __init__(self, table: PacsTable, incoming: IncomingFiles, *, ae_title: str) -> None:
        ae = AE(ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = table.timeout
        ae.maximum_pdu_size = table.max_pdu
        ae.require_called_aet = True
        ae.supported_contexts = [
            build_context(context.abstract_syntax, list(ACCEPTED_SYNTAXES))
            for context in AllStoragePresentationContexts
        ]
        try:
            self._server: Any = ae.make_server(
                (table.move_bind, table.move_port),
                evt_handlers=[(evt.EVT_C_STORE, incoming)],
                server_class=ThreadedAssociationServer,
                request_handler=_ConnectionHandler,
            )
        except OSError as error:
            raise ConfigError(
                f"move_port = {table.move_port}: cannot listen on {table.move_bind}:"
                f" {reason(error)}"
            ) from error
        ae._servers.append(self._server)  # as AE.start_server does, for shutdown
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Cut what is connected and stop listening."""
        for association in self._server.active_associations:
            association.abort()
        self._server.shutdown()


def _refusal(status: int, comment: str) -> Dataset:
    answer = Dataset()
    answer.Status, answer.ErrorComment = status, comment
    return answer


def write(folder: Path, sop_uid: str, *content: bytes | memoryview) -> Path:
    """Write the file of one instance, for this account alone; in place of an earlier one.

    Raises StorageError where the folder cannot take it.
    """
    # A UID of the peer's becomes a name only where it cannot be a path.
    stem = sop_uid if is_uid(sop_uid) else hashlib.sha256(sop_uid.encode()).hexdigest()
    path = folder / f"{stem}.dcm"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for part in content:
                file.write(part)
    except OSError as error:
        raise storage_error(error) from error
    return path


def settle(
    files: Mapping[str, Path],
    *,
    study_uid: str,
    listed: Collection[str],
    count: int | None,
    failed: Collection[str] = (),
    unexpected: Collection[str] = (),
    said: str = "",
) -> Fetched:
    """Hold what came against what was listed, and against the study that was asked for.

    ``listed`` are the SOP Instance UIDs that the source named, and ``count`` how many it said there
    are where it named none. ``said`` is what the peer reported of failures.
    """
    other = {uid: why for uid, path in files.items() if (why := is_other(path, study_uid, uid))}
    files = {uid: path for uid, path in files.items() if uid not in other}
    faults = {uid: "the peer failed to send it" for uid in failed if uid not in files} | other
    faults |= dict.fromkeys(unexpected, "came without being listed")
    for uid in listed:
        if uid not in files and uid not in faults:
            faults[uid] = "listed, and did not come"
    expected = len(listed) if listed else count
    if expected is not None and not listed and len(files) != expected:
        faults["study"] = f"{expected} listed, {len(files)} came"
    if expected == 0 and not files:
        faults["study"] = "no image of a wanted modality is listed"
    if said and expected != len(files):
        faults["study"] = "; ".join(filter(None, (faults.get("study"), said)))
    ordered = tuple(files[uid] for uid in sorted(files))
    return Fetched(ordered, expected, faults)


def is_other(path: Path, study_uid: str, sop_uid: str) -> str:
    """Return why a file is not the instance that it came as, '' where nothing in it says so."""
    try:
        header = pixels.read_header(path)
    except UnreadableInstance:
        return ""  # which is told when it is looked at
    if clean_uid(text_of(header, "StudyInstanceUID")) not in ("", study_uid):
        return OTHER_STUDY
    if clean_uid(text_of(header, "SOPInstanceUID")) not in ("", clean_uid(sop_uid)):
        return "the source sent another instance in its place"
    return ""
