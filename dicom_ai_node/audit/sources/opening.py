"""Which adapter stands behind the source that a spec names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dicom_ai_node.audit.sources import Source
from dicom_ai_node.audit.sources.dicomweb import Web
from dicom_ai_node.audit.sources.files import Folder, Node
from dicom_ai_node.audit.sources.pacs import Pacs
from dicom_ai_node.audit.sources.retrieval import Get, MoveHere, MoveToNode, Retrieval
from dicom_ai_node.config import Config
from dicom_ai_node.config.peers import PacsTable, WebTable
from dicom_ai_node.errors import ConfigError, did_you_mean
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, instances

_RADIOGRAPHY = ("CR", "DX")


def open_source(named: str, config: Config, *, modalities: Sequence[str] = _RADIOGRAPHY) -> Source:
    """Return the source ``named``: ``pacs:NAME``, ``web:NAME``, ``folder:PATH`` or ``node``.

    ``modalities`` are those of the spec: of a study, images of others are neither listed nor
    fetched. No peer is asked yet. Raises ConfigError, which says what there is, where there is no
    such source.
    """
    kind, _, name = named.partition(":")
    if kind == "folder" and name:
        return Folder(Path(name), modalities=modalities, limits=config.limits.bounds)
    if named == "node":
        db, spool = _store(config)
        return Node(db, spool, modalities=modalities, limits=config.limits.bounds)
    table = config.sources.get(name)
    if isinstance(table, PacsTable) and kind == table.kind:
        return Pacs(
            named,
            table,
            _retrieval(name, table, config, modalities),
            calling_ae_title=config.node.ae_title,
            modalities=modalities,
        )
    if isinstance(table, WebTable) and kind == table.kind:
        return Web(named, table, modalities=modalities)
    known = [f"{source.kind}:{name}" for name, source in sorted(config.sources.items())]
    hint = did_you_mean(named, [*known, "node"])
    raise ConfigError(
        f"no source {named!r}{hint}; there are: {', '.join([*known, 'node', 'folder:PATH'])}"
    )


def _retrieval(name: str, table: PacsTable, config: Config, modalities: Sequence[str]) -> Retrieval:
    ae_title = config.node.ae_title
    if table.retrieve == "get":
        return Get(table, calling_ae_title=ae_title, modalities=modalities)
    if table.move_port:
        return MoveHere(table, calling_ae_title=ae_title)
    if on := sorted(config.forwarding):
        raise ConfigError(
            f"source 'pacs:{name}' has no move_port, so a C-MOVE would bring images to the node,"
            f" which forwards what it receives to {', '.join(on)}: set sources.{name}.move_port"
            " and move_ae_title, or retrieve = 'get'"
        )
    return MoveToNode(table, calling_ae_title=ae_title, held=_held(*_store(config)))


def _held(db: Database, spool: Spool) -> Callable[[str], Mapping[str, Path]]:
    def files(study_instance_uid: str) -> Mapping[str, Path]:
        found = instances.analysable_instances(db, study_instance_uid)
        return {
            instance.sop_uid: spool.path(instance.path)
            for instance in found
            if not instance.is_gone
        }

    return files


def _store(config: Config) -> tuple[Database, Spool]:
    db = Database(config.storage.database)
    db.check_schema()
    return db, Spool(config.storage.spool)
