"""From what was collected to what an audit says. Pure, and independent of the order of studies."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from types import MappingProxyType

from dicom_ai_node.answers import Answer
from dicom_ai_node.archive.comparisons import stated
from dicom_ai_node.archive.member import Collected, Member
from dicom_ai_node.archive.mix_ups import Batch, Suspicion, judge_batch, with_findings
from dicom_ai_node.archive.rules import audit_archive, judge_groups
from dicom_ai_node.archive.stations import ORIGINS
from dicom_ai_node.archive.statistics import wilson_interval
from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.config.stages import FillSettings, PolicySettings
from dicom_ai_node.decide.proposals import propose
from dicom_ai_node.decide.study import header_only
from dicom_ai_node.rules import RULES_VERSION
from dicom_ai_node.rules.attributes import ATTRIBUTES, Attribute
from dicom_ai_node.types import FillProposal, HeaderCheck


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a study was made, as its header says; '' where it says nothing."""

    station: str = ""
    manufacturer: str = ""
    model: str = ""
    software: str = ""


@dataclass(frozen=True, slots=True)
class AuditedStudy:
    """The findings of one study."""

    key: str
    patient: str
    """Pseudonym: a hash of PatientID and issuer, '' without one."""
    study_date: date | None
    origin: Origin
    check: HeaderCheck
    """With the findings over the archive (C3, C6, G1 to G8) and of group H (H1 to H4)."""
    proposals: tuple[FillProposal, ...] = ()
    """The best value of the ladder for each attribute; kept nowhere but in the report."""
    answers: Mapping[str, Answer] = field(default_factory=dict, hash=False)
    """What the network states, by head; also an age that is not stated and contradicts a record."""
    suspicion: Suspicion = field(default_factory=Suspicion)
    expected: int | None = None
    arrived: int | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many studies of one group have a defect."""

    by: str
    """``station``, ``manufacturer``, ``model``, ``software`` or ``month``; ``station month``
    for the plot over time."""
    group: str
    studies: int
    flagged: int
    """Studies with age or sex missing, malformed, implausible or in conflict."""
    rules: Mapping[str, int]
    """Rule id -> studies in which it fired."""
    interval: tuple[float, float]
    """95 % Wilson interval of flagged / studies."""
    unusual: bool = False
    """G7: the rate lies above that of the rest of the archive beyond chance."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The alert budget and what it buys."""

    alerts_per_day: float | None
    days: int
    """Days of StudyDate that the audit covers."""
    threshold: float | None
    """Smallest score that alerts; None when nothing does."""
    alerts: int
    expected_ppv: float | None
    """Expected share of true ones among the alerts; None when there are none."""
    prevalence: float | None
    """Estimated share of assessable studies whose header and image disagree."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Everything a report says."""

    spec: AuditSpec
    studies: tuple[AuditedStudy, ...]
    """By key."""
    rates: tuple[Rate, ...]
    budget: Budget
    complete: bool
    """Whether every listed study was collected; False for a report of a running audit."""
    listed: int
    whole_headers: int
    """Studies of which headers of instances were had, not only what answers to queries say."""
    rules_version: str = RULES_VERSION
    model: str = ""
    """Name and version of the bundle, '' where no network was asked."""
    not_audited: Mapping[str, int] = field(default_factory=dict)
    """Why, and how many of what the source answered are left out."""
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: ATTRIBUTES, hash=False)
    """Those under check, by DICOM keyword."""


def conclude(
    spec: AuditSpec,
    collected: Iterable[Collected],
    *,
    listed: int,
    complete: bool,
    rules: RulesSettings,
    policy: PolicySettings,
    fill: FillSettings,
    model: str,
    not_audited: Mapping[str, int] = MappingProxyType({}),
    attributes: Mapping[str, Attribute] = ATTRIBUTES,
) -> AuditReport:
    """Say what is wrong in the archive, from all that was collected of it.

    A study that could not be retrieved is a finding (S1) and not an error. Never raises for
    what headers contain. Raises ValueError where two of ``collected`` have one key.
    """
    studies = list(collected)
    if len({study.key for study in studies}) < len(studies):
        raise ValueError("one study was collected twice")
    members = audit_archive(studies, settings=rules, today=spec.today, attributes=attributes)
    days = len({member.day for member in members if member.day})
    batch = judge_batch(
        members,
        false_discovery_rate=spec.false_discovery_rate,
        budget=None if spec.alerts_per_day is None else int(spec.alerts_per_day * days),
        policy=policy,
        disabled=rules.disabled,
    )
    seen = [
        replace(member, check=with_findings(member, batch, policy, rules.disabled))
        for member in members
    ]
    members, groups = judge_groups(seen, rules, attributes)
    unusual = {(group.by, group.name) for group in groups if group.unusual}
    return AuditReport(
        spec=spec,
        studies=tuple(_audited(member, batch, policy, fill, attributes) for member in members),
        rates=_rates([member for member in members if member.headers], unusual),
        budget=Budget(
            alerts_per_day=spec.alerts_per_day,
            days=days,
            threshold=batch.threshold,
            alerts=sum(suspicion.alert for suspicion in batch.suspicions.values()),
            expected_ppv=batch.expected_ppv,
            prevalence=batch.prevalence,
        ),
        complete=complete,
        listed=listed,
        whole_headers=sum(study.facts is not None and study.facts.from_files for study in studies),
        not_audited=dict(not_audited),
        model=model,
        attributes=attributes,
    )


def _audited(
    member: Member,
    batch: Batch,
    policy: PolicySettings,
    fill: FillSettings,
    attributes: Mapping[str, Attribute],
) -> AuditedStudy:
    result, suspicion = member.result, batch.suspicions[member.key]
    # What would be proposed, were it one of the node's; inferred only from its images.
    known = replace(result, check=member.check) if result else header_only("", member.check)
    contradicting = {
        attributes[keyword].name: batch.tested[keyword].estimates[member.key]
        for keyword in suspicion.found
    }
    return AuditedStudy(
        key=member.key,
        patient=member.patient,
        study_date=member.day,
        origin=Origin(**{by: member.usual(keyword) for by, keyword in ORIGINS.items()}),
        check=member.check,
        proposals=propose(known, fill, attributes) if fill.propose else (),
        answers=contradicting | stated(result, policy),
        suspicion=suspicion,
        expected=member.study.expected,
        arrived=member.study.arrived,
        fault=member.study.fault,
    )


def _rates(members: Sequence[Member], unusual: set[tuple[str, str]]) -> tuple[Rate, ...]:
    groups: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        for group in _groups(member):
            groups.setdefault(group, []).append(member)
    return tuple(
        _rate(by, name, inside, (by, name) in unusual)
        for (by, name), inside in sorted(groups.items())
    )


def _groups(member: Member) -> list[tuple[str, str]]:
    origins = [(by, member.usual(keyword)) for by, keyword in ORIGINS.items()]
    if member.day is None:
        return [*origins, ("month", "")]
    month = f"{member.day.year:04d}-{member.day.month:02d}"
    return [*origins, ("month", month), ("station month", f"{origins[0][1]} {month}")]


def _rate(by: str, name: str, members: Sequence[Member], unusual: bool) -> Rate:
    flagged = sum(member.check.flagged for member in members)
    rules = Counter(rule for member in members for rule in member.check.rules)
    interval = wilson_interval(flagged, len(members))
    return Rate(by, name, len(members), flagged, dict(sorted(rules.items())), interval, unusual)
