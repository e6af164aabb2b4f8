"""Received instances, and the associations that are still sending."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, select, update

from dicom_ai_node.answers import ImageRef, Reason
from dicom_ai_node.config.stages import LatePolicy, StudySettings
from dicom_ai_node.store import forwards
from dicom_ai_node.store.database import (
    AnyRow,
    Database,
    as_record,
    insert_missing,
    new_row,
    upsert,
)
from dicom_ai_node.store.lifecycles import apply_event, lock_study
from dicom_ai_node.store.node import value_of
from dicom_ai_node.store.tables import (
    association,
    association_study,
    instance,
    node_value,
    quarantine,
    study,
)
from dicom_ai_node.study import Event, State, closing_time

_REPORTED = frozenset({State.REPORTED, State.DELIVERED, State.UNDELIVERED})
"""A study that has a result, which ``late_policy = "keep"`` leaves as it is."""
_PAGE = 500
_CLASSES = "analysed_classes"
NO_IMAGE = "no_image"
"""Code of the reason why a study is passed over that has no instance of a class analysed."""


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """One durable instance in the spool."""

    image: ImageRef
    transfer_syntax_uid: str
    path: str
    """Path of the DICOM file, relative to the spool."""
    digest: str
    """BLAKE3 of the data set as received, hexadecimal."""
    size: int = 0
    version: int = 1
    """1 for the first content seen under this UID, 2 for the next, and so on."""
    calling_ae: str = ""
    association: str = ""


_STORED = [each.name for each in fields(StoredInstance) if each.name not in ("image", "version")]
_IMAGE = [each.name for each in fields(ImageRef)]


class Filed(StrEnum):
    """What filing an instance came to."""

    NEW = "new"
    NEW_VERSION = "new_version"
    """Other content under a UID that was known."""
    DUPLICATE = "duplicate"
    """The same content again: nothing changed."""


def record(
    db: Database,
    stored: StoredInstance,
    *,
    study_instance_uid: str,
    analysable: bool,
    settings: StudySettings,
    now: float,
    forward: bool = False,
) -> Filed:
    """File a durable instance under its study and move the study's life cycle on.

    ``analysable`` is False for classes that are only kept: they never reopen a closed study.
    ``forward`` has it sent on as well. When this returns, the row is committed and the sender may
    be told 0x0000.
    """
    with db.write() as connection:
        return add(
            connection,
            stored,
            study_instance_uid=study_instance_uid,
            analysable=analysable,
            settings=settings,
            now=now,
            forward=forward,
        )


def add(
    connection: Connection,
    stored: StoredInstance,
    *,
    study_instance_uid: str,
    analysable: bool,
    settings: StudySettings,
    now: float,
    forward: bool = False,
) -> Filed:
    """Do what :func:`record` does in the caller's transaction, which may add several.

    They come sorted by study: two who hold the same studies must hold them in one order.
    """
    study_uid, sop_uid = study_instance_uid, stored.image.sop_instance_uid
    held = lock_study(connection, study_uid)
    is_new = held is None and _open(connection, study_uid, settings, now)
    held = held or lock_study(connection, study_uid)
    assert held is not None
    if key := stored.association:
        joined = {"association_id": key, "study_instance_uid": study_uid}
        insert_missing(connection, association_study, **joined)
    filed = _insert(connection, stored, study_uid, analysable, now)
    open_to_more = held.state not in _REPORTED or settings.late_policy is LatePolicy.REOPEN
    # A study that was just made closes when this image says.
    if filed is not Filed.DUPLICATE and open_to_more and not is_new:
        event = Event.INSTANCE if analysable else Event.OTHER_INSTANCE
        apply_event(connection, study_uid, event, now=now, settings=settings, held=held)
    if forward:
        forwards.enter(connection, sop_uid, study_uid, now=now)
    return filed


def _open(connection: Connection, study_uid: str, settings: StudySettings, now: float) -> bool:
    """Make a study that begins now; return whether it was not yet there."""
    closes_at = closing_time(opened_at=now, last_at=now, settings=settings)
    times = {"first_at": now, "opened_at": now, "last_at": now, "closes_at": closes_at}
    new = {"study_instance_uid": study_uid, "state": State.COLLECTING, "updated_at": now}
    return insert_missing(connection, study, **new, **times)


def open_association(
    db: Database, key: str, *, calling_ae: str, address: str, now: float, alive_until: float
) -> None:
    """Remember that a peer is connected; studies that it sends stay open meanwhile."""
    peer = {"calling_ae": calling_ae, "address": address, "opened_at": now}
    db.change(insert(association).values(id=key, alive_until=alive_until, **peer))


def keep_associations(db: Database, keys: list[str], *, alive_until: float) -> None:
    """Renew the life of associations; one that is not renewed counts as closed."""
    if keys:
        mine = association.c.id.in_(keys)
        db.change(update(association).where(mine).values(alive_until=alive_until))


def close_association(db: Database, key: str) -> None:
    """Forget an association that has ended."""
    with db.write() as connection:
        joined = delete(association_study).where(association_study.c.association_id == key)
        connection.execute(joined)
        connection.execute(delete(association).where(association.c.id == key))


def forget_dead_associations(db: Database, *, now: float) -> int:
    """Forget associations whose receiver died; return how many."""
    unknown = association_study.c.association_id.not_in(select(association.c.id))
    with db.write() as connection:
        dead = delete(association).where(association.c.alive_until < now)
        count = connection.execute(dead).rowcount
        connection.execute(delete(association_study).where(unknown))
        return count


def record_quarantine(db: Database, *, path: str, calling_ae: str, reason: str, now: float) -> None:
    """Remember a file that could not be filed."""
    found = {"path": path, "calling_ae": calling_ae, "reason": reason}
    db.change(insert(quarantine).values(at=now, **found))


def _insert(
    connection: Connection, stored: StoredInstance, study_uid: str, analysable: bool, now: float
) -> Filed:
    sop_uid = stored.image.sop_instance_uid
    values = {name: getattr(stored, name) for name in _STORED}
    values |= {name: getattr(stored.image, name) for name in _IMAGE}
    values |= {"study_instance_uid": study_uid, "received_at": now, "analysable": analysable}
    new = _insertion(connection.dialect.name)
    version = connection.execute(new, values | {"of_uid": sop_uid}).scalar()
    if version is None:
        _restore(connection, study_uid, sop_uid, stored.digest, now)
        return Filed.DUPLICATE
    return Filed.NEW if version == 1 else Filed.NEW_VERSION


@cache
def _insertion(dialect: str) -> Any:
    """Return the insertion of an instance unless it is there; it counts and returns its version."""
    before = select(func.count()).where(instance.c.sop_instance_uid == bindparam("of_uid"))
    new = new_row(instance, dialect).values(version=before.scalar_subquery() + 1)
    return new.on_conflict_do_nothing().returning(instance.c.version)


def _restore(connection: Connection, study_uid: str, sop_uid: str, digest: str, now: float) -> None:
    """Take note that a file that retention had removed is there once more."""
    mine = (instance.c.sop_instance_uid == sop_uid) & (instance.c.digest == digest)
    gone = mine & instance.c.dropped_at.is_not(None)
    if connection.execute(update(instance).where(gone).values(dropped_at=None)).rowcount:
        # Retention counts from now again.
        connection.execute(
            update(study).where(study.c.study_instance_uid == study_uid).values(updated_at=now)
        )


def analyse_classes(db: Database, classes: Collection[str], *, now: float) -> int:
    """Let what was filed under another configuration be analysed as this one says.

    ``classes`` are the SOP classes that are analysed. A study that was passed over because it had
    no image of such a class is analysed after all; one that has a result keeps it. Returns how many
    studies that is.
    """
    said = hashlib.sha256(" ".join(sorted(classes)).encode()).hexdigest()
    with db.read() as connection:
        before = value_of(connection, _CLASSES)
    if before is not None and before.value == said:
        return 0  # and nothing was filed under another configuration since
    wanted = instance.c.sop_class_uid.in_(sorted(classes))
    now_analysed = (
        select(instance.c.study_instance_uid)
        .where(wanted, ~instance.c.analysable, instance.c.dropped_at.is_(None))
        .distinct()
    )
    with db.write() as connection:
        passed_over = (
            select(study.c.study_instance_uid)
            .where(study.c.study_instance_uid.in_(now_analysed))
            .where(study.c.state == State.SKIPPED, study.c.reason_code == NO_IMAGE)
        )
        studies = list(connection.execute(passed_over).scalars())
        for changed, analysable in ((~wanted, False), (wanted, True)):
            connection.execute(
                update(instance)
                .where(changed, instance.c.analysable != analysable)
                .values(analysable=analysable)
            )
        reason = Reason("requeued", "a bundle looks at its images now")
        for uid in studies:
            lock_study(connection, uid)
            apply_event(connection, uid, Event.REQUEUE, now=now, reason=reason, not_before=now)
        upsert(connection, node_value, name=_CLASSES, value=said, at=now)
    return len(studies)


@dataclass(frozen=True, slots=True)
class HeldInstance:
    """The newest version of one analysable instance."""

    sop_uid: str
    path: str
    """Relative to the spool."""
    calling_ae: str
    is_gone: bool
    """Retention has removed the file."""


def studies_with_files(db: Database) -> Iterator[str]:
    """Return the studies that have files, by UID; no transaction is open between two of them."""
    after = ""
    while True:
        query = (
            select(instance.c.study_instance_uid)
            .where(instance.c.study_instance_uid > after)
            .where(instance.c.analysable, instance.c.dropped_at.is_(None))
            .distinct()
            .order_by(instance.c.study_instance_uid)
            .limit(_PAGE)
        )
        page = db.scalars(query)
        if not page:
            return
        yield from page
        after = page[-1]


def analysable_instances(db: Database, study_uid: str) -> list[HeldInstance]:
    """Return the analysable instances of a study, in the order in which they came."""
    with db.read() as connection:
        return [
            HeldInstance(row.sop_instance_uid, row.path, row.calling_ae, row.dropped_at is not None)
            for row in newest_versions(connection, study_uid, instance.c.analysable)
        ]


def newest_versions(
    connection: Connection, study_uid: str, *which: ColumnElement[bool]
) -> list[AnyRow]:
    """Return the newest version of what came under each UID, in the order in which they came."""
    return newest_of_each(connection, [study_uid], *which).get(study_uid, [])


def newest_of_each(
    connection: Connection, study_uids: Sequence[str], *which: ColumnElement[bool]
) -> dict[str, list[AnyRow]]:
    """Return the same of several studies, by their UIDs."""
    query = select(instance).where(instance.c.study_instance_uid.in_(study_uids), *which)
    found: dict[str, dict[str, AnyRow]] = {}
    for row in connection.execute(query.order_by(instance.c.id)):
        found.setdefault(row.study_instance_uid, {})[row.sop_instance_uid] = row
    return {study_uid: list(rows.values()) for study_uid, rows in found.items()}


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One object that was put aside; the same content sent again is the same object."""

    at: float
    path: str
    """Relative to the spool; a person may have removed the file since."""
    calling_ae: str
    reason: str


def quarantined(db: Database, *, limit: int) -> list[Quarantined]:
    """Return what was put aside, the newest first."""
    query = select(quarantine).order_by(quarantine.c.id.desc()).limit(limit)
    return [as_record(Quarantined, row) for row in db.rows(query)]


def reasons_of_quarantine(db: Database) -> list[tuple[str, int]]:
    """Return each reason and how many objects were put aside for it, the most frequent first."""
    count = func.count()
    query = select(quarantine.c.reason, count).group_by(quarantine.c.reason).order_by(count.desc())
    return [(reason, number) for reason, number in db.rows(query)]


def filed_in(db: Database, prefix: str) -> dict[str, str]:
    """Return digest and path of the instances whose digest begins so and whose file is kept."""
    query = (
        select(instance.c.digest, instance.c.path)
        .where(instance.c.digest >= prefix, instance.c.digest < f"{prefix}g")
        .where(instance.c.dropped_at.is_(None))
    )
    return {row.digest: row.path for row in db.rows(query)}
