"""Whether a peer answers, and what it would take."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dicom_ai_node.config import Config
from dicom_ai_node.deliver.association import Offer, connect
from dicom_ai_node.dicom.classes import REPORTS, SECONDARY_CAPTURE, VERIFICATION
from dicom_ai_node.dicom.status import describe_store
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.peer.association import Peer, name_of


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
    """UIDs of the SR and SC classes that it accepts, in the order in which they are tried."""
    refused: tuple[str, ...]
    """UIDs of those that it does not."""

    needs_all: bool = False
    """Whether it is of no use without one of the classes: an archive, or a worklist."""

    @property
    def ok(self) -> bool:
        """Whether the C-ECHO succeeded, and nothing that is needed is refused."""
        return self.status == 0 and not (self.needs_all and self.refused)

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

    def as_dict(self) -> dict[str, Any]:
        """Return the result for a program."""
        values = asdict(self)
        del values["needs_all"]
        return {**values, "ok": self.ok}


def echo(config: Config, destination_name: str) -> EchoResult:
    """Open an association with a destination, probe its SOP classes and send a C-ECHO.

    Raises ConfigError: there is no such destination; PeerUnavailable: unknown host, connection
    refused, association rejected or aborted, or no answer in time; the message says which.
    """
    destination = config.destinations.get(destination_name)
    if destination is None:
        known = ", ".join(sorted(config.destinations)) or "none"
        raise ConfigError(f"no destination {destination_name!r}; configured: {known}")
    classes = (*REPORTS, SECONDARY_CAPTURE)
    return probe(destination, destination_name, classes, calling_ae_title=config.node.ae_title)


def probe(
    peer: Peer,
    name: str,
    classes: Sequence[str],
    *,
    calling_ae_title: str,
    needs_all: bool = False,
) -> EchoResult:
    """Send a C-ECHO to any peer, and ask which of ``classes`` it accepts.

    With ``needs_all`` it is of use only when it accepts every one of them. Raises PeerUnavailable.
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
    return EchoResult(
        destination=name,
        status=status,
        comment=comment,
        seconds=seconds,
        accepted=tuple(uid for uid in classes if uid in association.accepted),
        refused=tuple(uid for uid in classes if uid not in association.accepted),
        needs_all=needs_all,
    )
