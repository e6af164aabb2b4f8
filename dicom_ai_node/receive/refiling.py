"""Files an instance again whose file is durable and whose row is lost: a backup was restored."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.dicom.header import header_of_file, mapped
from dicom_ai_node.dicom.limits import Limits
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.receive.requests import identity_of
from dicom_ai_node.spool import Spool, sync_folder
from dicom_ai_node.store import Database, instances
from dicom_ai_node.store.instances import StoredInstance


@dataclass(frozen=True, slots=True)
class Unfiled:
    """A durable instance that has no row."""

    study_instance_uid: str
    stored: StoredInstance


def read_unfiled(spool: Spool, path: Path, limits: Limits) -> Unfiled:
    """Read a durable file as it was when it was filed, and see that it is on the disk.

    Who sent it is not in it.

    Raises UnreadableInstance: it cannot be read, or its content is not what its name says; OSError:
    the disk fails.
    """
    data = mapped(path)
    found = header_of_file(data, limits)
    start = found.meta.end if found.meta else 0
    digest = blake3(data[start:]).hexdigest()
    if digest != path.stem:
        raise UnreadableInstance("its content is not what its name says: the file was damaged")
    identity = identity_of(found.header)
    _sync(path)
    return Unfiled(
        identity.study_instance_uid,
        StoredInstance(
            image=identity.image,
            transfer_syntax_uid=found.transfer_syntax_uid,
            path=spool.relative(path),
            digest=digest,
            size=len(data) - start,
            calling_ae="",
            association="",
        ),
    )


def file_again(
    db: Database,
    unfiled: Unfiled,
    *,
    analysed: Collection[str],
    settings: StudySettings,
    forward: bool,
    now: float,
) -> None:
    """Give a durable instance its row; no harm where it has one by now.

    Its study is analysed where it is of one of the SOP classes ``analysed``.
    """
    instances.record(
        db,
        unfiled.stored,
        study_instance_uid=unfiled.study_instance_uid,
        analysable=unfiled.stored.image.sop_class_uid in analysed,
        settings=settings,
        now=now,
        forward=forward,
    )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_folder(path.parent)
