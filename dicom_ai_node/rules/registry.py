"""Every rule by id, in the order in which findings are listed."""

from collections.abc import Mapping
from types import MappingProxyType

from dicom_ai_node.rules import (
    age,
    coherence,
    dates,
    history,
    image,
    inputs,
    missing,
    placeholders,
    syntax,
    worklist,
)
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

IMAGE_RULES: Mapping[str, Entry] = MappingProxyType({**inputs.PIXEL_RULES, **image.RULES})
"""What needs the pixels or the estimate: it is found by ``pixels`` and ``decide``."""

RULES_VERSION = "2"
"""Changes whenever a rule, its default limits or the precedence of statuses changes.

It is part of a report's UID: the same study under other rules is another report.
"""
