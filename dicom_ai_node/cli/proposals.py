"""``proposals``: what could fill or mend a header, and who decided what about it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dicom_ai_node.cli.common import (
    AsJson,
    ConfigFile,
    configuration,
    console,
    open_database,
    print_json,
    when,
    whole,
)
from dicom_ai_node.cli.selecting import (
    First,
    Id,
    Keyword,
    Last,
    Rules,
    Sources,
    Station,
    Study,
    existing,
    narrowed,
)
from dicom_ai_node.cli.who import signed
from dicom_ai_node.store import proposals as store
from dicom_ai_node.store.fills import Stuck, why_stuck
from dicom_ai_node.store.proposals import ProposalDetail, StoredProposal
from dicom_ai_node.study.proposals import ProposalState

_WIDE = 120
"""Columns of a terminal that has room for a UID."""


def list_(
    config: ConfigFile = None,
    state: Annotated[
        list[ProposalState] | None, typer.Option(help="Only these states (may be repeated).")
    ] = None,
    source: Sources = None,
    rule: Rules = None,
    keyword: Keyword = "",
    station: Station = "",
    first: First = None,
    last: Last = None,
    study: Study = "",
    stuck: Annotated[
        bool, typer.Option("--stuck", help="Only accepted ones that [fill] auto_apply could not.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List proposals, newest first.

    Example: dicom-ai-node proposals list --state open --source inference
    """
    selection = narrowed(
        states=state or (),
        sources=source,
        rules=rule,
        keyword=keyword,
        station=station,
        first=first,
        last=last,
        study=study,
    )
    db = open_database(configuration(config))
    rows = store.find(db, replace(selection, stuck=stuck), limit=limit)
    if as_json:
        for row in rows:
            print_json(as_row(row))
        return
    console.print(as_table(rows))
    console.print(f"{len(rows)} proposals" + (" (more may follow)" if len(rows) == limit else ""))


def as_table(rows: Sequence[StoredProposal]) -> Table:
    """Return proposals as a table; station and study have room only on a wide terminal."""
    wide = console.width >= _WIDE
    columns = ["ID", "Attribute", "Recorded", "Proposed", "Source", "State", "Rules", "Study date"]
    table = Table(*columns, *(("Station", whole("Study")) if wide else ()), box=None)
    for row in rows:
        one = row.proposed
        table.add_row(
            str(row.id),
            one.keyword,
            one.recorded,
            one.value,
            one.source,
            row.state,
            " ".join(one.rules),
            row.study_date,
            *((row.station, row.study_instance_uid) if wide else ()),
        )
    return table


def show(proposal_id: Id, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show one proposal: value, source, interval or probability, rules, every decision.

    Example: dicom-ai-node proposals show 12
    """
    db = open_database(configuration(config))
    detail = existing(db, proposal_id)
    row = detail.proposal
    accepted = row.state is ProposalState.ACCEPTED
    stuck = why_stuck(db, row.study_instance_uid) if accepted else None
    if as_json:
        print_json(_detail(detail, stuck))
        return
    one = row.proposed
    console.print(Text.assemble((f"{one.keyword} = {one.value}", "bold"), f"  {row.state}"))
    console.print(f"recorded: {one.recorded or 'nothing'}")
    where = f", station {row.station}" if row.station else ""
    console.print(f"study {row.study_instance_uid} of {row.study_date or 'an unknown day'}{where}")
    console.print(f"from {one.source}: {one.detail}")
    if one.probability is not None:
        console.print(f"probability {one.probability:.3f}")
    console.print(f"rules that asked for it: {', '.join(one.rules) or 'none'}")
    if stuck is not None:
        console.print(
            f"not applied ({stuck.attempts} attempts, again after {when(stuck.not_before)}): "
            f"{stuck.reason}",
        )
    table = Table("When", "Who", "From", "To", "Why", box=None)
    for event in detail.events:
        who = signed(event.actor, event.account)
        table.add_row(when(event.at), who, event.from_state, event.to_state, event.reason)
    console.print(table)


def as_row(row: StoredProposal) -> dict[str, Any]:
    """Return a proposal as one object of the JSON output."""
    one = row.proposed
    return {
        "id": row.id,
        "study_instance_uid": row.study_instance_uid,
        "keyword": one.keyword,
        "recorded": one.recorded,
        "value": one.value,
        "source": one.source,
        "detail": one.detail,
        "interval90": list(one.interval90) if one.interval90 else None,
        "probability": one.probability,
        "rules": list(one.rules),
        "study_date": row.study_date,
        "station": row.station,
        "state": row.state,
        "created_at": when(row.created_at),
        "updated_at": when(row.updated_at),
    }


def _detail(detail: ProposalDetail, stuck: Stuck | None) -> dict[str, Any]:
    return as_row(detail.proposal) | {
        "not_applied": stuck
        and {
            "reason": stuck.reason,
            "attempts": stuck.attempts,
            "tried_at": when(stuck.tried_at),
            "not_before": when(stuck.not_before),
        },
        "events": [
            {
                "at": when(one.at),
                "by": one.actor,
                "account": one.account,
                "from": one.from_state,
                "to": one.to_state,
                "reason": one.reason,
            }
            for one in detail.events
        ],
    }
