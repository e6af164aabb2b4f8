"""``proposals``: what could fill or mend a header, and who decided what about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dicom_ai_node.cli.commands import ConfigFile, First, Last, Limit
from dicom_ai_node.cli.common import configuration, open_database, signed
from dicom_ai_node.cli.printing import Block, Output, count_of, table, when, whole, with_times
from dicom_ai_node.errors import ConfigError, NodeError
from dicom_ai_node.store import Database
from dicom_ai_node.store import proposals as store
from dicom_ai_node.store.fills import Stuck, why_stuck
from dicom_ai_node.store.proposals import ProposalDetail, Selection, StoredProposal
from dicom_ai_node.study.proposals import ProposalState
from dicom_ai_node.terminal import console
from dicom_ai_node.types import ProposalSource

_KEYWORDS = ("PatientAge", "PatientSex", "BodyPartExamined")
_WIDE = 120
"""Columns of a terminal that has room for a UID."""

Id = Annotated[int, typer.Argument(metavar="ID", help="Number of the proposal.")]
Ids = Annotated[
    list[int] | None, typer.Argument(metavar="[ID]...", help="Numbers of the proposals.")
]
Everything = Annotated[bool, typer.Option("--all", help="Everything that could be meant.")]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which proposals a command is about, as options."""

    source: Annotated[
        list[ProposalSource] | None,
        typer.Option("--source", help="Only these sources (may be repeated)."),
    ] = None
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", help="Only what this rule asked for, such as B3 (may be repeated)."),
    ] = None
    keyword: Annotated[
        str, typer.Option(help="Only PatientAge, PatientSex or BodyPartExamined.")
    ] = ""
    station: Annotated[str, typer.Option(help="Only studies with this StationName.")] = ""
    first: First = None
    last: Last = None
    study: Annotated[str, typer.Option(help="Only this StudyInstanceUID.")] = ""

    def selection(self, states: Sequence[ProposalState]) -> Selection:
        """Return the proposals in ``states`` that match.

        Raises ConfigError: a keyword or a rule that there is none of, or dates the wrong way round.
        """
        from dicom_ai_node.rules.check import RULES
        from dicom_ai_node.rules.image_rules import IMAGE_RULES

        if self.keyword and self.keyword not in _KEYWORDS:
            raise ConfigError(f"--keyword {self.keyword!r}: {' or '.join(_KEYWORDS)} was expected")
        for rule in self.rule or ():
            if rule not in RULES and rule not in IMAGE_RULES:
                raise ConfigError(f"--rule {rule!r}: the id of a rule was expected, such as B3")
        if self.first and self.last and self.first > self.last:
            raise ConfigError(f"--from {self.first:%Y-%m-%d} is after --to {self.last:%Y-%m-%d}")
        return Selection(
            states=states,
            sources=self.source or (),
            rules=self.rule or (),
            keyword=self.keyword,
            station=self.station,
            first_date=_day(self.first),
            last_date=_day(self.last),
            study_instance_uid=self.study,
        )


def _day(value: datetime | None) -> str:
    return f"{value:%Y%m%d}" if value else ""


def list_(
    config: ConfigFile = None,
    state: Annotated[
        list[ProposalState] | None, typer.Option(help="Only these states (may be repeated).")
    ] = None,
    *,
    filters: Filters,
    stuck: Annotated[
        bool, typer.Option("--stuck", help="Only accepted ones that [fill] auto_apply could not.")
    ] = False,
    limit: Limit = 100,
) -> Output:
    """List proposals, newest first.

    Example: dicom-ai-node proposals list --state open --source inference
    """
    selection = replace(filters.selection(state or ()), stuck=stuck)
    rows = store.find(open_database(configuration(config)), selection, limit=limit)
    return Output(rows, json=as_row, blocks=[as_table(rows), count_of(rows, limit, "proposals")])


def as_table(rows: Sequence[StoredProposal]) -> Table:
    """Return proposals as a table; station and study have room only on a wide terminal."""
    wide = console.width >= _WIDE
    columns = ["ID", "Attribute", "Recorded", "Proposed", "Source", "State", "Rules", "Study date"]
    return table(
        [*columns, *(("Station", whole("Study")) if wide else ())],
        [
            (
                str(row.id),
                row.proposed.keyword,
                row.proposed.recorded,
                row.proposed.value,
                row.proposed.source,
                row.state,
                " ".join(row.proposed.rules),
                row.study_date,
                *((row.station, row.study_instance_uid) if wide else ()),
            )
            for row in rows
        ],
    )


def show(proposal_id: Id, config: ConfigFile = None) -> Output:
    """Show one proposal: value, source, interval or probability, rules, every decision.

    Example: dicom-ai-node proposals show 12
    """
    db = open_database(configuration(config))
    detail = existing(db, proposal_id)
    row = detail.proposal
    accepted = row.state is ProposalState.ACCEPTED
    stuck = why_stuck(db, row.study_instance_uid) if accepted else None
    return Output(
        [detail],
        json=lambda found: _detail(found, stuck),
        blocks=_detail_blocks(detail, stuck),
    )


def _detail_blocks(detail: ProposalDetail, stuck: Stuck | None) -> Iterator[Block]:
    row, proposed = detail.proposal, detail.proposal.proposed
    yield Text.assemble((f"{proposed.keyword} = {proposed.value}", "bold"), f"  {row.state}")
    yield f"recorded: {proposed.recorded or 'nothing'}"
    where = f", station {row.station}" if row.station else ""
    yield f"study {row.study_instance_uid} of {row.study_date or 'an unknown day'}{where}"
    yield f"from {proposed.source}: {proposed.detail}"
    if proposed.probability is not None:
        yield f"probability {proposed.probability:.3f}"
    yield f"rules that asked for it: {', '.join(proposed.rules) or 'none'}"
    if stuck is not None:
        again = f"{stuck.attempts} attempts, again after {when(stuck.not_before)}"
        yield f"not applied ({again}): {stuck.reason}"
    events = [
        (
            when(event.at),
            signed(event.actor, event.account),
            event.from_state,
            event.to_state,
            event.reason,
        )
        for event in detail.events
    ]
    yield table(("When", "Who", "From", "To", "Why"), events)


def chosen(
    db: Database, ids: Sequence[int] | None, selection: Selection, everything: bool
) -> list[StoredProposal]:
    """Return the proposals with ``ids``, or all of ``selection``; the oldest first.

    Raises ConfigError: neither was given, or both; NodeError: there is no proposal with one of the
    IDs.
    """
    filtered = Selection(states=selection.states) != selection
    if ids and (filtered or everything):
        raise ConfigError("give the IDs of proposals, or filters, not both")
    if not (ids or filtered or everything):
        raise ConfigError(
            "which proposals? Give IDs, or filters: --rule, --source, --keyword, --station, "
            "--from, --to, --study; --all is every one"
        )
    if ids:
        return [existing(db, proposal_id).proposal for proposal_id in dict.fromkeys(ids)]
    return store.find(db, selection)[::-1]


def existing(db: Database, proposal_id: int) -> ProposalDetail:
    """Return a proposal, or raise NodeError when there is none."""
    detail = store.show(db, proposal_id)
    if detail is None:
        raise NodeError(
            f"no proposal {proposal_id}; 'dicom-ai-node proposals list' shows those there are"
        )
    return detail


def as_row(row: StoredProposal) -> dict[str, Any]:
    """Return a proposal as one object of the JSON output."""
    proposed = row.proposed
    return {
        "id": row.id,
        "study_instance_uid": row.study_instance_uid,
        "keyword": proposed.keyword,
        "recorded": proposed.recorded,
        "value": proposed.value,
        "source": proposed.source,
        "detail": proposed.detail,
        "interval90": list(proposed.interval90) if proposed.interval90 else None,
        "probability": proposed.probability,
        "rules": list(proposed.rules),
        "study_date": row.study_date,
        "station": row.station,
        "state": row.state,
        "created_at": when(row.created_at),
        "updated_at": when(row.updated_at),
    }


def _detail(detail: ProposalDetail, stuck: Stuck | None) -> dict[str, Any]:
    return as_row(detail.proposal) | {
        "not_applied": stuck and with_times(stuck),
        "events": [
            {
                "at": when(event.at),
                "by": event.actor,
                "account": event.account,
                "from": event.from_state,
                "to": event.to_state,
                "reason": event.reason,
            }
            for event in detail.events
        ],
    }
