"""Every rule held against the answer key of a generated archive."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dicom_ai_node.archive.member import Collected
from dicom_ai_node.archive.rules import ARCHIVE_RULES
from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.conclude import AuditReport, conclude
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.config.stages import FillSettings, PolicySettings
from dicom_ai_node.rules.check import RULES
from tests.builders.archive import Planted


@dataclass(frozen=True)
class Score:
    """One rule: the studies that it must fire in, and those that it fired in."""

    rule: str
    wanted: frozenset[str]
    found: frozenset[str]

    @property
    def recall(self) -> float:
        return len(self.wanted & self.found) / len(self.wanted) if self.wanted else 1.0

    @property
    def precision(self) -> float:
        return len(self.wanted & self.found) / len(self.found) if self.found else 1.0


def concluded(spec: AuditSpec, collected: Sequence[Collected], **more: Any) -> AuditReport:
    """What an audit says that collected everything, by the default settings."""
    usual: dict[str, Any] = {
        "listed": len(collected),
        "complete": True,
        "rules": RulesSettings(),
        "policy": PolicySettings(),
        "fill": FillSettings(),
        "model": "",
    }
    return conclude(spec, collected, **usual | more)


def fired(report: AuditReport) -> dict[str, tuple[str, ...]]:
    """The rules of each study."""
    return {one.key: one.check.rules for one in report.studies}


def scores(
    studies: Sequence[Planted],
    fired: Mapping[str, Collection[str]],
    *,
    without: frozenset[str] = frozenset({"G6", "G7"}),
) -> list[Score]:
    """Every rule of the table held against the key. ``fired`` are an audit's rules by study."""
    return [
        Score(
            rule,
            frozenset(one.uid for one in studies if rule in one.expected),
            frozenset(key for key, rules in fired.items() if rule in rules),
        )
        for rule in (*RULES, *ARCHIVE_RULES)
        if rule not in without
    ]


def wrong(rows: Sequence[Score]) -> list[Score]:
    """The rules that missed a study, or fired where they must not."""
    return [row for row in rows if (row.recall, row.precision) != (1.0, 1.0)]


def table(rows: Sequence[Score]) -> str:
    lines = ["rule  planted  found  recall  precision"]
    for row in rows:
        counts = f"{len(row.wanted):8d} {len(row.found):6d}"
        lines.append(f"{row.rule:5s}{counts}  {row.recall:6.3f}  {row.precision:9.3f}")
    return "\n".join(lines)
