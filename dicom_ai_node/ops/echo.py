"""Whether a peer of the configuration answers: a destination, a source or the worklist."""

import time
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from dicom_ai_node.config import Config
from dicom_ai_node.config.peers import PacsTable, SourceTable
from dicom_ai_node.deliver.echo import echo as echo_destination
from dicom_ai_node.deliver.echo import probe
from dicom_ai_node.dicom.classes import FIND, GET, MOVE, WORKLIST
from dicom_ai_node.errors import ConfigError, did_you_mean

WORKLIST_NAME = "worklist"


class EchoAnswer(Protocol):
    """What a peer answered."""

    @property
    def ok(self) -> bool:
        """Whether it is of use as it is configured."""

    @property
    def text(self) -> str:
        """The answer for a person, in a few lines."""

    def as_dict(self) -> dict[str, Any]:
        """Return the answer for a program."""


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """A DICOMweb service that answered a query for one study."""

    destination: str
    seconds: float
    ok: bool = True

    @property
    def text(self) -> str:
        """Return the answer for a person."""
        return f"{self.destination} answered QIDO-RS after {self.seconds * 1000:.0f} ms"

    def as_dict(self) -> dict[str, Any]:
        """Return the answer for a program."""
        return asdict(self)


def echo(config: Config, name: str) -> EchoAnswer:
    """Ask the peer called ``name``: a destination, ``KIND:NAME`` or a source, or ``worklist``.

    Of a destination and a source that share a name, the destination is asked.

    Raises ConfigError: there is none; the message says which there are; PeerUnavailable,
    PeerRefused: it does not answer, or not what was asked; the message says how.
    """
    if name in config.destinations:
        return echo_destination(config, name)
    sources = {f"{source.kind}:{key}": source for key, source in config.sources.items()}
    bare = {full.partition(":")[2]: full for full in sources}
    full = bare.get(name, name)
    if full in sources:
        return _echo_source(config, full, sources[full])
    worklist = config.worklist
    if name == WORKLIST_NAME and worklist is not None:
        calling = worklist.calling_ae_title or config.node.ae_title
        return probe(worklist, name, [WORKLIST], calling_ae_title=calling, needs_all=True)
    known = [*config.destinations, *sources, *([WORKLIST_NAME] if worklist else [])]
    hint = did_you_mean(name, [*known, *bare])
    there = ", ".join(known) or "none is configured"
    raise ConfigError(f"no destination or source {name!r}{hint}; there are: {there}")


def _echo_source(config: Config, name: str, source: SourceTable) -> EchoAnswer:
    calling = config.node.ae_title
    if isinstance(source, PacsTable):
        classes = [FIND, GET if source.retrieve == "get" else MOVE]
        return probe(source, name, classes, calling_ae_title=calling, needs_all=True)
    from dicom_ai_node.audit.sources.dicomweb_client import WebService

    service = WebService(source)
    try:
        start = time.perf_counter()
        service.studies({}, [], limit=1, offset=0)
        return WebAnswer(name, time.perf_counter() - start)
    finally:
        service.close()
