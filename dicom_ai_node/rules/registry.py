"""Every rule by id, in the order in which findings are listed."""

from collections.abc import Mapping
from types import MappingProxyType

from dicom_ai_node.rules import (
    age,
    coherence,
    crowds,
    dates,
    history,
    identities,
    image,
    inputs,
    listing,
    missing,
    placeholders,
    syntax,
    worklist,
)
from dicom_ai_node.rules.member import ArchiveRule
from dicom_ai_node.rules.rule import Entry, Rule

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **syntax.RULES,
        **missing.RULES,
        **placeholders.RULES,
        **dates.RULES,
        **age.RULES,
        **coherence.RULES,
        **history.RULES,
        **worklist.RULES,
        **inputs.RULES,
    }
)

ARCHIVE_RULES: Mapping[str, ArchiveRule] = MappingProxyType(
    dict(sorted({**crowds.RULES, **identities.RULES, **listing.RULES}.items()))
)
"""What needs an archive and not a study."""

IMAGE_RULES: Mapping[str, Entry] = MappingProxyType({**inputs.PIXEL_RULES, **image.RULES})
"""What needs the pixels or the estimate: it is found by ``pixels`` and ``decide``."""

RULES_VERSION = "2"
"""Changes whenever a rule, its default limits or the precedence of statuses changes.

It is part of a report's UID: the same study under other rules is another report.
"""


def markdown_table() -> str:
    """The rules as the table in docs/header-rules.md."""
    lines = ["| id | severity | about | fires when | settings |", "|---|---|---|---|---|"]
    for rule in (*RULES.values(), *ARCHIVE_RULES.values(), *IMAGE_RULES.values()):
        settings = ", ".join(f"`{name}`" for name in rule.tunables)
        lines.append(
            f"| {rule.id} | {rule.severity} | {rule.attribute} | {rule.reason} | {settings} |"
        )
    return "\n".join(lines)
