"""Received instances, and the associations that are still sending."""

from collections.abc import Callable
from enum import StrEnum

from sqlalchemy import Connection, delete, func, insert, select, update

from dicom_ai_node.config.stages import LatePolicy, StudySettings
from dicom_ai_node.store import forwards
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.history import apply_event, lock_study
from dicom_ai_node.store.retention import needed_by_proposal
from dicom_ai_node.store.tables import association, association_study, instance, quarantine, study
from dicom_ai_node.study import Event, State, closing_time
from dicom_ai_node.types import StoredInstance

_REPORTED = frozenset({State.REPORTED, State.DELIVERED, State.UNDELIVERED})
"""A study that has a result, which ``late_policy = "keep"`` leaves as it is."""


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
        _ensure_study(db, connection, study_instance_uid, settings, now)
        lock_study(connection, study_instance_uid)
        _join(db, connection, stored.association, study_instance_uid)
        filed = _insert(db, connection, stored, study_instance_uid, analysable, now)
        if filed is not Filed.DUPLICATE:
            _notify(connection, study_instance_uid, analysable, settings, now)
        if forward:
            sop = stored.image.sop_instance_uid
            forwards.enter(db, connection, sop, study_instance_uid, now=now)
        return filed


def open_association(
    db: Database, key: str, *, calling_ae: str, address: str, now: float, alive_until: float
) -> None:
    """Remember that a peer is connected; studies that it sends stay open meanwhile."""
    with db.write() as connection:
        connection.execute(
            insert(association).values(
                id=key,
                calling_ae=calling_ae,
                address=address,
                opened_at=now,
                alive_until=alive_until,
            )
        )


def keep_associations(db: Database, keys: list[str], *, alive_until: float) -> None:
    """Renew the life of associations; one that is not renewed counts as closed."""
    if keys:
        with db.write() as connection:
            connection.execute(
                update(association)
                .where(association.c.id.in_(keys))
                .values(alive_until=alive_until)
            )


def close_association(db: Database, key: str) -> None:
    """Forget an association that has ended."""
    with db.write() as connection:
        _forget(connection, [key])


def forget_dead_associations(db: Database, *, now: float) -> int:
    """Forget associations whose receiver died; return how many."""
    with db.write() as connection:
        dead = select(association.c.id).where(association.c.alive_until < now)
        keys = list(connection.execute(dead).scalars())
        _forget(connection, keys)
        living = select(association.c.id)
        connection.execute(
            delete(association_study).where(association_study.c.association_id.not_in(living))
        )
        return len(keys)


def record_quarantine(db: Database, *, path: str, calling_ae: str, reason: str, now: float) -> None:
    """Remember a file that could not be filed."""
    with db.write() as connection:
        connection.execute(
            insert(quarantine).values(at=now, path=path, calling_ae=calling_ae, reason=reason)
        )


def drop_expired(
    db: Database, *, before: float, now: float, limit: int, remove: Callable[[str], bool]
) -> int:
    """Let ``remove`` take away files whose study settled before ``before``; return how many went.

    Only studies whose last word is delivered or that had nothing to report: what is unsent, failed
    or still collecting keeps its pixels. So does an image that was not forwarded to all before
    ``before``, and one of a study with a proposal that is open or accepted: it is what a person
    looks at, and what a copy is made of. The rows are held meanwhile, so that no late image can
    reopen a study half of whose files are gone. Killed in between, the next call finds the same
    rows again: ``remove`` must not mind a file that is gone. It returns False for one to keep.
    """
    done = (State.DELIVERED, State.SKIPPED)
    query = (
        select(instance.c.id, instance.c.path)
        .join(study)
        .where(instance.c.dropped_at.is_(None))
        .where(study.c.state.in_(done), study.c.updated_at < before)
        .where(~forwards.needs_its_file(before), ~needed_by_proposal())
        .order_by(study.c.updated_at)
        .limit(limit)
    )
    with db.read() as connection:
        if not connection.execute(query.limit(1)).first():
            return 0
    with db.write() as connection:
        locked = query.with_for_update(of=study, skip_locked=True)
        gone = [row.id for row in connection.execute(locked).all() if remove(row.path)]
        connection.execute(update(instance).where(instance.c.id.in_(gone)).values(dropped_at=now))
        return len(gone)


def _forget(connection: Connection, keys: list[str]) -> None:
    if keys:
        connection.execute(
            delete(association_study).where(association_study.c.association_id.in_(keys))
        )
        connection.execute(delete(association).where(association.c.id.in_(keys)))


def _ensure_study(
    db: Database, connection: Connection, uid: str, settings: StudySettings, now: float
) -> None:
    connection.execute(
        db.insert_missing(study).values(
            study_instance_uid=uid,
            state=State.COLLECTING,
            first_at=now,
            opened_at=now,
            last_at=now,
            closes_at=closing_time(opened_at=now, last_at=now, settings=settings),
            updated_at=now,
        )
    )


def _join(db: Database, connection: Connection, key: str, uid: str) -> None:
    if key:
        connection.execute(
            db.insert_missing(association_study).values(association_id=key, study_instance_uid=uid)
        )


def _insert(
    db: Database,
    connection: Connection,
    stored: StoredInstance,
    study_instance_uid: str,
    analysable: bool,
    now: float,
) -> Filed:
    uid = stored.image.sop_instance_uid
    same_uid = instance.c.sop_instance_uid == uid
    versions = connection.execute(select(func.count()).where(same_uid)).scalar_one()
    inserted = connection.execute(
        db.insert_missing(instance)
        .values(
            sop_instance_uid=uid,
            digest=stored.digest,
            version=versions + 1,
            study_instance_uid=study_instance_uid,
            series_instance_uid=stored.image.series_instance_uid,
            sop_class_uid=stored.image.sop_class_uid,
            transfer_syntax_uid=stored.transfer_syntax_uid,
            path=stored.path,
            size=stored.size,
            calling_ae=stored.calling_ae,
            association=stored.association,
            received_at=now,
            analysable=analysable,
        )
        .returning(instance.c.id)
    )
    if inserted.first() is not None:
        return Filed.NEW_VERSION if versions else Filed.NEW
    _restore(connection, study_instance_uid, uid, stored.digest, now)
    return Filed.DUPLICATE


def _restore(connection: Connection, study_uid: str, uid: str, digest: str, now: float) -> None:
    """Take note that a file that retention had removed is there once more."""
    mine = (instance.c.sop_instance_uid == uid) & (instance.c.digest == digest)
    gone = mine & instance.c.dropped_at.is_not(None)
    if connection.execute(update(instance).where(gone).values(dropped_at=None)).rowcount:
        # Retention counts from now again.
        connection.execute(
            update(study).where(study.c.study_instance_uid == study_uid).values(updated_at=now)
        )


def _notify(
    connection: Connection, uid: str, analysable: bool, settings: StudySettings, now: float
) -> None:
    event = Event.INSTANCE if analysable else Event.OTHER_INSTANCE
    state = connection.execute(
        select(study.c.state).where(study.c.study_instance_uid == uid)
    ).scalar_one()
    if state not in _REPORTED or settings.late_policy is LatePolicy.REOPEN:
        apply_event(connection, uid, event, now=now, settings=settings)
