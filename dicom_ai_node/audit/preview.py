"""What an audit would cost: listed and counted, nothing fetched, nothing kept."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from dicom_ai_node.audit.sources.listing import Part
from dicom_ai_node.audit.sources.source import Source
from dicom_ai_node.audit.spec import AuditSpec, Depth
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules import check


@dataclass(slots=True)
class Preview:
    """The counts of a dry run."""

    slices: int
    """Parts of the listing."""
    slices_done: int = 0
    studies: int = 0
    instances: int = 0
    """As far as the source says."""
    flagged: int = 0
    """Studies that the header rules flag by what the listing says of them."""
    images: int = 0
    """Studies of which the images would be fetched."""
    not_audited: dict[str, int] = field(default_factory=dict)
    """Why, and how many answers are left out."""

    def minutes(self, studies_per_minute: float) -> float | None:
        """Return how long the studies take at the rate limit, None when there is none."""
        return self.studies / studies_per_minute if studies_per_minute else None


def preview(
    source: Source, spec: AuditSpec, rules: RulesSettings, *, tell: Callable[[Preview], None]
) -> Preview:
    """List everything that the audit would list.

    Raises
    ------
    DeliveryError
        The source cannot be listed; nothing is tried again.
    """
    parts = source.slices(spec)
    found = Preview(slices=len(parts))
    everything = Part(spec.limit)
    for part in parts:
        for listed in everything.different(source.list(spec, part)):
            flagged = check([listed.header], settings=rules, today=spec.today).flagged
            wanted = spec.depth is Depth.ALL or (flagged and spec.depth is Depth.FLAGGED)
            found.studies += 1
            found.instances += listed.instances or 0
            found.flagged += flagged
            found.images += wanted
        found.slices_done += 1
        tell(found)
        if spec.limit is not None and found.studies >= spec.limit:
            break
    found.not_audited = dict(Counter(why.value for why in everything.omitted().values()))
    return found
