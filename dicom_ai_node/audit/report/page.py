"""The report as one HTML page that needs neither script nor network."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dicom_ai_node.answers import Quantity
from dicom_ai_node.archive.comparisons import COMPARISONS
from dicom_ai_node.archive.rules import ALL_RULES
from dicom_ai_node.archive.statistics import wilson_interval
from dicom_ai_node.audit.conclude import AuditedStudy, AuditReport, Rate
from dicom_ai_node.audit.report import plots
from dicom_ai_node.audit.report.tables import heads, is_of_sex
from dicom_ai_node.audit.sources import not_audited_in_words
from dicom_ai_node.output import visible
from dicom_ai_node.rules.attributes import AGE
from dicom_ai_node.rules.rule import Entry
from dicom_ai_node.types import AttributeStatus, Severity

MOST_OFFENDERS, MOST_FLAGGED, MOST_FAULTS = 50, 500, 200
_MOST_STATIONS, _MOST_MONTHS, _MOST_DOTS = 12, 36, 3000
# A month of fewer studies says nothing, and a wrong StudyDate can name any.
_SMALLEST_MONTH = 3
_SMALLEST_GROUP = 20
Point = tuple[int, float, tuple[float, float]]
"""Month, share of flagged studies, its interval."""
_GRAVE = {AttributeStatus.CONFLICT_HEADER, AttributeStatus.IMPLAUSIBLE}


def page(report: AuditReport) -> str:
    """The whole page; texts from headers are escaped."""
    environment = Environment(
        loader=PackageLoader("dicom_ai_node.audit.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_seen,
    )
    environment.filters["percent"] = _percent
    environment.filters["listed"] = _listed
    environment.tests["of_sex"] = is_of_sex
    flagged = [study for study in report.studies if study.check.flagged]
    faults = [study for study in report.studies if study.fault]
    offenders = _offenders(report.studies)
    return environment.get_template("report.html.j2").render(
        report=report,
        flagged=flagged[:MOST_FLAGGED],
        flagged_count=len(flagged),
        flagged_interval=wilson_interval(len(flagged), len(report.studies)),
        names=[attribute.name for attribute in report.attributes.values()],
        heads=heads(report),
        statuses=_statuses(report),
        dates=_dates(report),
        images=_images(report.studies),
        compared=sum(bool(study.suspicion.probable) for study in report.studies),
        offenders=offenders[:MOST_OFFENDERS],
        offenders_count=len(offenders),
        rules=_rules(report.studies),
        silent=_silent(report.studies),
        unusual=[rate for rate in report.rates if rate.unusual],
        faults=faults[:MOST_FAULTS],
        faults_count=len(faults),
        asked=_asked(report),
        rates_plot=_rates_plot(report.rates),
        time_plot=_time_plot(report.rates, today=report.spec.today),
        scatter_plot=_scatter_plot(report.studies),
        coverage_plot=_coverage_plot(report.studies),
    )


def _seen(value: Any) -> Any:
    """Texts of headers with what is not seen written out: bidi overrides turn a line round."""
    return visible(value) if type(value) is str else value


def _percent(share: float | None, digits: int = 1) -> str:
    return "" if share is None else f"{100 * share:.{digits}f} %"


def _listed(words: Iterable[str], conjunction: str) -> str:
    *most, last = words
    return f"{', '.join(most)} {conjunction} {last}"


def _statuses(report: AuditReport) -> Mapping[AttributeStatus, Sequence[int]]:
    """How many studies have a status, of each attribute under check."""
    counts = [
        Counter(study.check.attributes[keyword].status for study in report.studies)
        for keyword in report.attributes
    ]
    table = {status: [count[status] for count in counts] for status in AttributeStatus}
    return {status: numbers for status, numbers in table.items() if any(numbers)}


def _images(studies: Sequence[AuditedStudy]) -> Iterator[tuple[str, int]]:
    """How many studies the images say something of."""
    suspicions = [study.suspicion for study in studies]
    for keyword, comparison in COMPARISONS.items():
        plural, rule = comparison.plural, comparison.rule
        compared = sum(keyword in suspicion.probable for suspicion in suspicions)
        yield f"{plural} compared with the image", compared
        found = sum(keyword in suspicion.found for suspicion in suspicions)
        yield f"improbable {plural} ({rule})", found
    yield "possible mix-ups (H3)", sum(suspicion.mix_up for suspicion in suspicions)
    yield "not assessable (H4)", sum("H4" in study.check.rules for study in studies)


def _offenders(studies: Sequence[AuditedStudy]) -> list[AuditedStudy]:
    """Alerts by score, then headers with an error or a contradiction, the most of them first."""

    def weight(study: AuditedStudy) -> tuple[int, int, int]:
        errors = sum(finding.severity is Severity.ERROR for finding in study.check.findings)
        grave = sum(status in _GRAVE for status in study.check.statuses.values())
        return errors + grave, grave, len(study.check.findings)

    alerts = [study for study in studies if study.suspicion.alert]
    others = [study for study in studies if not study.suspicion.alert and weight(study)[0]]
    return [
        *sorted(alerts, key=lambda study: (-study.suspicion.score, study.key)),
        *sorted(others, key=lambda study: (*(-part for part in weight(study)), study.key)),
    ]


def _rules(studies: Sequence[AuditedStudy]) -> list[tuple[Entry, int]]:
    """Every rule that fired, and in how many studies."""
    counts = Counter(rule for study in studies for rule in study.check.rules)
    return [(ALL_RULES[rule], counts[rule]) for rule in sorted(counts, key=_in_order)]


def _silent(studies: Sequence[AuditedStudy]) -> list[str]:
    """The rules that an audit runs and that fired nowhere: not G6, which asks a worklist."""
    fired = {rule for study in studies for rule in study.check.rules}
    return sorted(set(ALL_RULES) - fired - {"G6"}, key=_in_order)


def _in_order(rule: str) -> tuple[str, int]:
    return rule[0], int(rule[1:])


def _dates(report: AuditReport) -> str:
    first, last = report.spec.first_date, report.spec.last_date
    return f"{first or 'open'} to {last or 'open'}" if first or last else "any"


def _asked(report: AuditReport) -> Iterator[tuple[str, str]]:
    spec = report.spec
    yield "Source", spec.source
    yield "StudyDate", _dates(report)
    yield "Modalities", ", ".join(spec.modalities) or "all"
    yield "Not audited", not_audited_in_words(report.not_audited) or "nothing that was answered"
    yield "Depth", spec.depth
    yield "Whole headers", f"of {report.whole_headers} of {len(report.studies)} studies"
    yield "At most", f"{spec.limit} studies" if spec.limit else "no limit"
    yield "Alerts a day", f"{spec.alerts_per_day:g}" if spec.alerts_per_day else "no budget"
    yield "False discovery rate of image conflicts", _percent(spec.false_discovery_rate)
    yield "Day of the audit", spec.today.isoformat()
    yield "Rules", f"version {report.rules_version}"
    yield "Network", report.model or "not asked"


def _rates_plot(rates: Sequence[Rate]) -> Sequence[str]:
    """Return the plot in two widths, of which a page shows the one that fits."""
    shares = [_share(rate) for rate in _largest(rates)]
    title = "Flagged studies by station"
    return (
        [plots.forest(shares, title=title, width=width) for width in (900, plots.NARROW)]
        if shares
        else []
    )


def _largest(rates: Sequence[Rate]) -> list[Rate]:
    """The unusual stations and the largest others, by name."""
    stations = [rate for rate in rates if rate.by == "station"]
    ranked = sorted(stations, key=lambda rate: (not rate.unusual, -rate.studies, rate.group))
    return sorted(ranked[:_MOST_STATIONS], key=lambda rate: rate.group)


def _share(rate: Rate) -> plots.Share:
    label = rate.group or "(no StationName)"
    return plots.Share(
        label, rate.flagged / rate.studies, rate.interval, rate.studies, rate.unusual
    )


def _time_plot(rates: Sequence[Rate], *, today: date) -> Sequence[str]:
    """Flagged studies of each large station over its own months, none of them after today's."""
    this_month = today.year * 12 + today.month - 1
    months: dict[str, list[Point]] = {}
    for rate in rates:
        if rate.by == "station month" and rate.studies >= _SMALLEST_MONTH:
            station, _, month = rate.group.rpartition(" ")
            number = int(month[:4]) * 12 + int(month[5:]) - 1
            point = (number, rate.flagged / rate.studies, rate.interval)
            if number <= this_month:
                months.setdefault(station, []).append(point)
    return plots.courses(
        [
            plots.Course(
                rate.group or "(no StationName)",
                _newest(months[rate.group]),
                rate.unusual,
            )
            for rate in _largest(rates)
            if rate.group in months
        ],
        title="Flagged studies by month",
    )


def _newest(points: list[Point]) -> list[Point]:
    return [point for point in points if point[0] > points[-1][0] - _MOST_MONTHS]


def _compared_ages(studies: Sequence[AuditedStudy]) -> Iterator[tuple[AuditedStudy, plots.Dot]]:
    """Studies whose recorded age was compared with the image."""
    for study in studies:
        years, suspicion = study.check.attributes[AGE].number, study.suspicion
        if years is not None and AGE in suspicion.probable:
            for age in study.answers.values():
                if isinstance(age, Quantity) and age.attribute == AGE:
                    marked = suspicion.alert or AGE in suspicion.found
                    yield study, plots.Dot(years, age.mu, age.interval90, marked)
                    break  # of several networks the first is compared


def _scatter_plot(studies: Sequence[AuditedStudy]) -> str:
    dots = [dot for _, dot in _compared_ages(studies)]
    if not dots:
        return ""
    # Every n-th of the unmarked ones: a page of a million studies must still open.
    plain = [dot for dot in dots if not dot.marked]
    step = 1 + len(plain) // _MOST_DOTS
    marked = [dot for dot in dots if dot.marked]
    return plots.scatter([*plain[::step], *marked], title="Estimated and recorded age")


def _coverage_plot(studies: Sequence[AuditedStudy]) -> str:
    """How often the 90 % interval holds the recorded age: by estimated age, and by station."""
    groups: dict[str, list[bool]] = {}
    for study, dot in _compared_ages(studies):
        inside = dot.interval[0] <= dot.recorded <= dot.interval[1]
        decade = int(dot.estimated // 10) * 10
        for group in ("all", f"age {decade} to {decade + 9}", study.origin.station):
            groups.setdefault(group, []).append(inside)
    shares = [
        plots.Share(
            group or "(no StationName)",
            sum(inside) / len(inside),
            wilson_interval(sum(inside), len(inside)),
            len(inside),
        )
        for group, inside in sorted(groups.items(), key=_coverage_order)
        if len(inside) >= _SMALLEST_GROUP or group == "all"
    ]
    return (
        plots.forest(shares, title="Coverage of the 90 % interval", nominal=0.9) if shares else ""
    )


def _coverage_order(item: tuple[str, list[bool]]) -> tuple[int, str]:
    group = item[0]
    return (0 if group == "all" else 1 if group.startswith("age ") else 2, group)
