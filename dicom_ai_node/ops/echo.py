"""Whether a peer of the configuration answers: a destination, a source or the worklist."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from dicom_ai_node.config import Config
from dicom_ai_node.config.peers import PacsTable, SourceTable
from dicom_ai_node.deliver.association import Offer, connect
from dicom_ai_node.dicom.classes import (
    FIND,
    GET,
    MOVE,
    REPORTS,
    SECONDARY_CAPTURE,
    VERIFICATION,
    WORKLIST,
)
from dicom_ai_node.dicom.status import describe_store
from dicom_ai_node.errors import ConfigError, did_you_mean
from dicom_ai_node.peer.requestor import Peer, name_of

WORKLIST_NAME = "worklist"


@dataclass(frozen=True, slots=True)
class EchoResult:
    """The answer of a peer that accepted an association."""

    destination: str
    status: int | None
    """Status of the C-ECHO, 0 is success; None when it does not accept Verification."""
    comment: str
    """The destination's Error Comment: why the C-ECHO did not succeed."""
    seconds: float
    """From the C-ECHO request to its answer; 0 when there was none."""
    accepted: tuple[str, ...]
    """UIDs of the classes that it accepts, in the order in which they are tried."""
    refused: tuple[str, ...]
    """UIDs of those that it does not."""
    ok: bool
    """Whether it is of use as it is configured."""

    @property
    def text(self) -> str:
        """Return the result for a person, in a few lines."""
        if self.status is None:
            first = f"{self.destination} accepts associations, but no C-ECHO"
        else:
            first = (
                f"{self.destination} answered C-ECHO with {describe_store(self.status)}"
                f" after {self.seconds * 1000:.0f} ms"
            )
            if self.comment:
                first += f": {self.comment}"
        lines = [f"  accepts {name_of(uid)}" for uid in self.accepted]
        lines += [f"  does not accept {name_of(uid)}" for uid in self.refused]
        return "\n".join([first, *lines])


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


def echo(config: Config, name: str) -> EchoResult | WebAnswer:
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
        return _probe(worklist, name, [WORKLIST], calling, needs_all=True)
    known = [*config.destinations, *sources, *([WORKLIST_NAME] if worklist else [])]
    hint = did_you_mean(name, [*known, *bare])
    there = ", ".join(known) or "none is configured"
    raise ConfigError(f"no destination or source {name!r}{hint}; there are: {there}")


def echo_destination(config: Config, name: str) -> EchoResult:
    """Ask a destination, and which SR and SC classes it takes. Raises PeerUnavailable."""
    classes = (*REPORTS, SECONDARY_CAPTURE)
    return _probe(config.destinations[name], name, classes, config.node.ae_title, needs_all=False)


def _echo_source(config: Config, name: str, source: SourceTable) -> EchoResult | WebAnswer:
    if isinstance(source, PacsTable):
        classes = [FIND, GET if source.retrieve == "get" else MOVE]
        return _probe(source, name, classes, config.node.ae_title, needs_all=True)
    from dicom_ai_node.audit.sources.dicomweb_client import WebService

    service = WebService(source)
    try:
        start = time.perf_counter()
        service.studies({}, [], limit=1, offset=0)
        return WebAnswer(name, time.perf_counter() - start)
    finally:
        service.close()


def _probe(
    peer: Peer, name: str, classes: Sequence[str], calling_ae_title: str, *, needs_all: bool
) -> EchoResult:
    """Send a C-ECHO, and ask which of ``classes`` the peer accepts.

    With ``needs_all`` it is of use only when it accepts every one of them.
    """
    offers = [Offer(uid) for uid in (VERIFICATION, *classes)]
    association = connect(peer, offers, calling_ae_title=calling_ae_title)
    status, comment, seconds = None, "", 0.0
    try:
        if VERIFICATION in association.accepted:
            start = time.perf_counter()
            status, comment = association.echo()
            seconds = time.perf_counter() - start
    finally:
        association.release()
    accepted = tuple(uid for uid in classes if uid in association.accepted)
    refused = tuple(uid for uid in classes if uid not in association.accepted)
    ok = status == 0 and not (needs_all and refused)
    return EchoResult(name, status, comment, seconds, accepted, refused, ok)
