"""From what was collected to what the audit says. Pure, and independent of the order of studies."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from types import MappingProxyType

from dicom_ai_node.archive.member import Collected, Member
from dicom_ai_node.archive.mix_ups import (
    Batch,
    BatchStudy,
    judge_batch,
    stated_age,
    stated_sex,
    with_findings,
)
from dicom_ai_node.archive.rules import audit_archive, judge_groups
from dicom_ai_node.archive.stations import ORIGINS
from dicom_ai_node.archive.statistics import wilson_interval
from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.outcome import (
    AuditedStudy,
    AuditReport,
    Budget,
    Origin,
    Rate,
    Suspicion,
)
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.config.stages import FillSettings, PolicySettings
from dicom_ai_node.decide.proposals import propose
from dicom_ai_node.decide.study import header_only
from dicom_ai_node.types import FillProposal, StudyResult


def conclude(
    spec: AuditSpec,
    collected: Iterable[Collected],
    *,
    listed: int,
    complete: bool,
    rules: RulesSettings,
    policy: PolicySettings,
    fill: FillSettings,
    rules_version: str,
    model: str,
    not_audited: Mapping[str, int] = MappingProxyType({}),
) -> AuditReport:
    """Say what is wrong in the archive, from all that was collected of it.

    A study that could not be retrieved is a finding (S1) and not an error. Never raises for
    what headers contain. Raises ValueError where two of ``collected`` have one key.
    """
    gathered = list(collected)
    kept = {one.key: one for one in gathered}
    if len(kept) < len(gathered):
        raise ValueError("one study was collected twice")
    members = audit_archive(gathered, settings=rules, today=spec.today)
    days = len({one.day for one in members if one.day})
    cases = [BatchStudy(one.key, one.check, kept[one.key].result) for one in members]
    batch = judge_batch(
        cases,
        false_discovery_rate=spec.false_discovery_rate,
        budget=_affordable(spec.alerts_per_day, days),
        policy=policy,
        disabled=rules.disabled,
    )
    members, groups = judge_groups(
        [
            member.with_check(with_findings(case, batch.verdicts[case.key], rules.disabled))
            for member, case in zip(members, cases, strict=True)
        ],
        rules,
    )
    unusual = {(one.by, one.name) for one in groups if one.unusual}
    return AuditReport(
        spec=spec,
        studies=tuple(_audited(one, kept[one.key].result, batch, policy, fill) for one in members),
        rates=_rates([one for one in members if one.headers], unusual),
        budget=_budget(spec.alerts_per_day, days, batch),
        complete=complete,
        listed=listed,
        whole_headers=sum(one.facts is not None and one.facts.from_files for one in gathered),
        rules_version=rules_version,
        not_audited=dict(not_audited),
        model=model,
    )


def _affordable(alerts_per_day: float | None, days: int) -> int | None:
    """Alerts over all days that have studies, None without a budget."""
    return None if alerts_per_day is None else int(alerts_per_day * days)


def _budget(alerts_per_day: float | None, days: int, batch: Batch) -> Budget:
    return Budget(
        alerts_per_day=alerts_per_day,
        days=days,
        threshold=batch.threshold,
        alerts=sum(one.alert for one in batch.verdicts.values()),
        expected_ppv=batch.expected_ppv,
        prevalence=batch.prevalence,
    )


def _audited(
    member: Member,
    result: StudyResult | None,
    batch: Batch,
    policy: PolicySettings,
    fill: FillSettings,
) -> AuditedStudy:
    verdict = batch.verdicts[member.key]
    return AuditedStudy(
        key=member.key,
        patient=member.patient,
        study_date=member.day,
        origin=_origin(member),
        check=member.check,
        proposals=_proposals(member, result, fill),
        age=stated_age(result, policy) or (verdict.age if verdict.age_found else None),
        sex=stated_sex(result, policy),
        suspicion=Suspicion(
            age_p=verdict.age_p,
            sex_p=verdict.sex_p,
            age_found=verdict.age_found,
            sex_found=verdict.sex_found,
            mix_up=verdict.mix_up,
            score=verdict.score,
            alert=verdict.alert,
        ),
        expected=member.expected,
        arrived=member.arrived,
        fault=member.fault,
    )


def _proposals(
    member: Member, result: StudyResult | None, fill: FillSettings
) -> tuple[FillProposal, ...]:
    """What would be proposed, were the study one of the node's; inferred only from its images."""
    if not fill.propose:
        return ()
    known = replace(result, check=member.check) if result else header_only("", member.check)
    return propose(known, fill)


def _origin(member: Member) -> Origin:
    return Origin(**{by: member.usual(keyword) for by, keyword in ORIGINS.items()})


def _rates(members: Sequence[Member], unusual: set[tuple[str, str]]) -> tuple[Rate, ...]:
    groups: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        for group in _groups(member):
            groups.setdefault(group, []).append(member)
    return tuple(
        _rate(by, name, own, (by, name) in unusual) for (by, name), own in sorted(groups.items())
    )


def _groups(member: Member) -> list[tuple[str, str]]:
    origins = [(by, member.usual(keyword)) for by, keyword in ORIGINS.items()]
    month = _month(member.day)
    if not month:
        return [*origins, ("month", "")]
    return [*origins, ("month", month), ("station month", f"{origins[0][1]} {month}")]


def _month(day: date | None) -> str:
    return f"{day.year:04d}-{day.month:02d}" if day else ""


def _rate(by: str, name: str, members: Sequence[Member], unusual: bool) -> Rate:
    flagged = sum(one.check.flagged for one in members)
    rules: Mapping[str, int] = Counter(rule for one in members for rule in one.check.rules)
    return Rate(
        by=by,
        group=name,
        studies=len(members),
        flagged=flagged,
        rules=dict(sorted(rules.items())),
        interval=wilson_interval(flagged, len(members)),
        unusual=unusual,
    )
