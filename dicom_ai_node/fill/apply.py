"""Applies what was accepted for a study: one copy of each image for each destination that takes it.

All accepted values of a study go into the same copy. First every copy is durable in the spool, then
one transaction queues them and marks the proposals applied: whoever dies in between leaves files
that the next attempt finds under the same names.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from dicom_ai_node.config import Config
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.header import header_of_file
from dicom_ai_node.dicom.limits import DEFAULT
from dicom_ai_node.errors import FillError, NodeError, StorageError, StorageFull
from dicom_ai_node.fill.admission import FillAdmission, admit, approver, fill_of
from dicom_ai_node.report.copies import filled_copy
from dicom_ai_node.report.identity import ReportFile
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.rules.body_part_meaning import BODY_PART, to_be_filled
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, monitor
from dicom_ai_node.store.fills import (
    NewCopy,
    due,
    network_of,
    queue_copies,
    record_done,
    record_stuck,
)
from dicom_ai_node.store.instances import HeldInstance, analysable_instances
from dicom_ai_node.store.proposals import ProposalDetail, applicable
from dicom_ai_node.store.reports import StoredFile
from dicom_ai_node.study.proposals import POLICY, ProposalState
from dicom_ai_node.types import ProposalSource

_STUDIES_A_RUN = 50

log = structlog.get_logger()


class CopyMaker(Protocol):
    """Makes the copy of one image: see ``report/copies.py``."""

    def __call__(
        self, source: bytes, values: Sequence[ProposalDetail], *, at: datetime, research: bool
    ) -> ReportFile | None:
        """Return the copy of the DICOM file ``source`` with ``values`` in it.

        ``at`` is when they were accepted. The same arguments make the same copy. None where none of
        the values is for this image: a body part is for series whose own is missing or wrong.
        """
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying a study's proposals would send."""

    images: tuple[HeldInstance, ...]
    admissions: tuple[FillAdmission, ...]
    """Of every destination, those that get nothing included."""

    @property
    def taking(self) -> list[FillAdmission]:
        """Those destinations that get something."""
        return [admission for admission in self.admissions if admission.admitted]

    @property
    def deliveries(self) -> int:
        """How many copies would go out, those that were queued before included."""
        return len(self.images) * len(self.taking)


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of applying a study's proposals."""

    images: int
    """Of how many images a copy was made."""
    queued: int
    """Deliveries that are new; 0 when everything had been queued before."""
    admissions: tuple[FillAdmission, ...]
    """Of every destination, those that get nothing included."""


def apply(
    config: Config,
    db: Database,
    spool: Spool,
    uid: str,
    *,
    actor: str,
    make: CopyMaker,
    now: float,
    account: str = "",
) -> Applied:
    """Make, keep and queue the copies of a study's images, and mark its proposals applied.

    Applied again, it serves images and destinations that are new since.

    Raises FillError: nothing is accepted, nobody may get it, an image is gone, or no copy can be
    made of one; StorageError: a copy could not be made durable.
    """
    wanted = plan(config, db, uid)
    taking, images = wanted.taking, wanted.images
    files: dict[tuple[object, ...], list[StoredFile]] = {}
    new: list[NewCopy] = []
    for admission in taking:
        # Destinations with the same key get the same copies.
        key = (admission.research, *(each.proposal.id for each in admission.admitted))
        if key not in files:
            made = copies(spool, images, admission, make)
            files[key] = [_keep(spool, copy) for _, copy in made]
        new += [NewCopy(file, admission.destination) for file in files[key]]
    sent = {each.proposal.id: each for admission in taking for each in admission.admitted}
    queued = queue_copies(
        db,
        uid,
        new,
        list(sent.values()),
        actor=actor,
        account=account,
        reason="; ".join(admission.text for admission in taking),
        now=now,
    )
    copied = max((len(made) for made in files.values()), default=0)
    return Applied(copied, queued, wanted.admissions)


def plan(config: Config, db: Database, uid: str) -> Plan:
    """Return what :func:`apply` would send now.

    Raises FillError: nothing is accepted, or nobody may get it.
    """
    offered = applicable(db, uid)
    if not offered:
        raise FillError("no proposal of this study is accepted: accept one first")
    mode = monitor.mode(db)
    found = Plan(
        tuple(analysable_instances(db, uid)),
        tuple(admit(name, one, offered, mode) for name, one in config.destinations.items()),
    )
    if not found.taking:
        raise FillError(f"no destination takes it: {_refusals(found.admissions)}")
    return found


def copies(
    spool: Spool, images: Sequence[HeldInstance], to: FillAdmission, make: CopyMaker
) -> Iterator[tuple[bytes, ReportFile]]:
    """Yield each image of a study with its copy for a destination, both as files.

    Raises FillError: an image is gone.
    """
    at = datetime.fromtimestamp(max(detail.accepted_at for detail in to.admitted), UTC)
    for _, source in contents(spool, images):
        copy = make(source, to.admitted, at=at, research=to.research)
        if copy is not None:
            yield source, copy


def contents(spool: Spool, images: Sequence[HeldInstance]) -> Iterator[tuple[HeldInstance, bytes]]:
    """Yield each image of a study with its file, of none if one is gone: that is a FillError."""
    gone = sum(image.is_gone for image in images)
    if gone or not images:
        raise FillError(
            f"{gone} of {len(images)} images are not kept any more (storage.retention_days): send "
            "the study again first"
        )
    for image in images:
        try:
            yield image, spool.path(image.path).read_bytes()
        except OSError as error:
            raise StorageError(f"spool: {image.path}: {error.strerror or error}") from error


def _keep(spool: Spool, copy: ReportFile) -> StoredFile:
    path = spool.report_path(copy.sop_instance_uid)
    spool.write(path, copy.content)
    with suppress(OSError):
        os.utime(path)  # retention leaves what is fresh, and this may have been there for long
    return StoredFile(copy.sop_class_uid, copy.sop_instance_uid, spool.relative(path))


def _refusals(admissions: Sequence[FillAdmission]) -> str:
    if not admissions:
        return "none is configured"
    return "; ".join(
        f"{admission.destination}: "
        + ", ".join(f"{keyword} ({why})" for keyword, why in admission.refused.items())
        for admission in admissions
    )


def _is_for(source: bytes, value: ProposalDetail) -> bool:
    """Whether a value that is proposed for a study is for this image of it."""
    if value.proposed.keyword != BODY_PART:
        return True
    return to_be_filled(
        TextHeader.from_dataset(header_of_file(memoryview(source), DEFAULT).dataset())
    )


def copy_maker(db: Database, settings: ReportSettings) -> CopyMaker:
    """Return what makes the copies; ``settings`` name their maker, as they name a report's."""

    def make(
        source: bytes, values: Sequence[ProposalDetail], *, at: datetime, research: bool
    ) -> ReportFile | None:
        values = [value for value in values if _is_for(source, value)]
        if not values:
            return None
        sexes = [value for value in values if value.proposed.keyword == "PatientSex"]
        inferred = [each for each in values if each.proposed.source is ProposalSource.INFERENCE]
        return filled_copy(
            source,
            [fill_of(value) for value in values],
            at=at,
            settings=settings,
            model=network_of(db, inferred[0].proposal) if inferred else None,
            allow_sex=research or all(approver(value) for value in sexes),
        )

    return make


def apply_due(
    config: Config, db: Database, spool: Spool, *, make: CopyMaker, stop: threading.Event
) -> int:
    """Apply the accepted proposals of the studies that are due; return of how many all are applied.

    Raises StorageError: the database fails, or there is no room for copies; what was applied before
    stays so.
    """
    done = 0
    for uid in due(db, now=time.time(), limit=_STUDIES_A_RUN):
        if stop.is_set():
            break
        fault: Exception | None = None
        try:
            applied = apply(config, db, spool, uid, actor=POLICY, make=make, now=time.time())
            log.info("proposals_applied", study=uid, images=applied.images, queued=applied.queued)
            reason = _left(applied, db, uid)
        except StorageFull:
            raise
        except Exception as error:  # noqa: BLE001 - must not cost other studies their copies
            known, fault = isinstance(error, NodeError), error
            reason = str(error) if known else f"an error of this program: {type(error).__name__}"
        if not reason:
            record_done(db, uid)
            done += 1
        elif record_stuck(db, uid, reason, now=time.time()):
            log.warning("proposals_not_applied", study=uid, reason=reason, exc_info=fault)
    return done


def _left(applied: Applied, db: Database, uid: str) -> str:
    """Return why some of what is accepted was not applied, '' when all was."""
    accepted = {
        detail.proposed.keyword
        for detail in applicable(db, uid)
        if detail.proposal.state is ProposalState.ACCEPTED
    }
    refusals = [
        f"{admission.destination}: {keyword} ({why})"
        for admission in applied.admissions
        for keyword, why in admission.refused.items()
        if keyword in accepted
    ]
    return f"no destination takes it: {'; '.join(refusals)}" if accepted else ""
