"""``proposals accept`` and ``proposals reject``: by ID, or all that match."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.progress import track
from rich.table import Table

from dicom_ai_node.cli.common import (
    AsJson,
    ConfigFile,
    ExitCode,
    complain,
    configuration,
    console,
    open_database,
    plain_terminal,
    print_json,
    progress_console,
)
from dicom_ai_node.cli.proposals import as_row, as_table
from dicom_ai_node.cli.selecting import (
    DryRun,
    Everything,
    First,
    Ids,
    Keyword,
    Last,
    Rules,
    Sources,
    Station,
    Study,
    Yes,
    chosen,
    narrowed,
)
from dicom_ai_node.cli.who import account, person, signed
from dicom_ai_node.errors import ConfigError, FillError
from dicom_ai_node.store import Database
from dicom_ai_node.store.decisions import decide_on
from dicom_ai_node.store.proposals import Selection, StoredProposal
from dicom_ai_node.study.proposals import Decision, ProposalState
from dicom_ai_node.types import ProposalSource

_EXAMPLES = 5

By = Annotated[
    str,
    typer.Option(
        "--by",
        help="Who decides. Default: the user of this session, whose account is recorded anyway.",
    ),
]
Why = Annotated[str, typer.Option("--reason", help="Why.")]
State = Annotated[ProposalState, typer.Option(help="With filters: only proposals in this state.")]


_ACCEPT = """Accept proposals: their values are right. Nothing is sent before they are applied.

By ID, or all that match the filters. Filters take an inferred age only with --source inference,
a sex only with --keyword PatientSex, and never an inferred sex: that is accepted by its ID.

Example: dicom-ai-node proposals accept 12 --by "R. Roe" --reason "asked the ward"

Example: dicom-ai-node proposals accept --rule A1 --source header --reason "no unit" --dry-run
"""
_REJECT = """Reject proposals: the same value from the same source is not proposed again.

By ID, or all that match the filters.

Example: dicom-ai-node proposals reject 12 --reason "another patient's image"

Example: dicom-ai-node proposals reject --station ER2 --to 2024-01-31 --reason "clock was wrong"
"""
_WANTED = {
    "PatientSex": "--keyword PatientSex asks for them",
    "inferred PatientAge": "--source inference asks for them",
    "inferred PatientSex": "accept each by its ID",
}
_DONE = {Decision.ACCEPT: "accepted", Decision.REJECT: "rejected"}


def _command(decision: Decision, says: str) -> Callable[..., None]:
    def command(
        reason: Why,
        ids: Ids = None,
        source: Sources = None,
        rule: Rules = None,
        keyword: Keyword = "",
        station: Station = "",
        first: First = None,
        last: Last = None,
        study: Study = "",
        state: State = ProposalState.OPEN,
        everything: Everything = False,
        dry_run: DryRun = False,
        yes: Yes = False,
        by: By = "",
        config: ConfigFile = None,
        as_json: AsJson = False,
    ) -> None:
        selection = narrowed(
            states=[state],
            sources=source,
            rules=rule,
            keyword=keyword,
            station=station,
            first=first,
            last=last,
            study=study,
        )
        db = open_database(configuration(config))
        if not reason.strip():
            raise ConfigError(f"--reason {reason!r}: why you decide so was expected")
        actor = person(by)
        rows = chosen(db, ids, selection, everything)
        if decision is Decision.ACCEPT and not ids:
            rows = _acceptable(rows, selection)
        if not ids or dry_run:
            _show(rows, decision, as_json=as_json and dry_run)
        if dry_run or not rows or not (ids or yes or _confirmed(rows, decision)):
            return
        _decide(db, rows, decision, actor, reason.strip(), as_json)

    command.__doc__ = says
    return command


accept, reject = _command(Decision.ACCEPT, _ACCEPT), _command(Decision.REJECT, _REJECT)


def _acceptable(rows: Sequence[StoredProposal], selection: Selection) -> list[StoredProposal]:
    """Leave out what a person accepts one at a time, or has to ask for by name; say how many."""
    kinds = Counter(map(_kind, rows))
    left_out = {"inferred PatientSex"}
    if selection.keyword != "PatientSex":
        left_out.add("PatientSex")
    if ProposalSource.INFERENCE not in selection.sources:
        left_out.add("inferred PatientAge")
    for kind in sorted(left_out & kinds.keys()):
        progress_console.print(f"left out: {kinds[kind]} of {kind}; {_WANTED[kind]}")
    return [one for one in rows if _kind(one) not in left_out]


def _kind(one: StoredProposal) -> str:
    inferred = one.proposed.source is ProposalSource.INFERENCE
    return f"{'inferred ' if inferred else ''}{one.proposed.keyword}"


def _show(rows: Sequence[StoredProposal], decision: Decision, *, as_json: bool) -> None:
    """Print what is meant: how many of which kind, and the first of them."""
    if as_json:
        for row in rows:
            print_json(as_row(row))
        return
    console.print(f"{len(rows)} proposals would be {_DONE[decision]}")
    if not rows:
        return
    kinds = Counter(
        (one.proposed.keyword, one.proposed.source, " ".join(one.proposed.rules)) for one in rows
    )
    table = Table("Count", "Attribute", "Source", "Rules", box=None)
    for kind, count in kinds.most_common():
        table.add_row(str(count), *kind)
    console.print(table)
    console.print(as_table(rows[:_EXAMPLES]))
    if len(rows) > _EXAMPLES:
        console.print(f"... and {len(rows) - _EXAMPLES} more")


def _confirmed(rows: Sequence[StoredProposal], decision: Decision) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{len(rows)} proposals match: --yes was expected, or --dry-run to see them"
        )
    return typer.confirm(f"{decision.capitalize()} {len(rows)} proposals?")


def _decide(
    db: Database,
    rows: Sequence[StoredProposal],
    decision: Decision,
    actor: str,
    reason: str,
    as_json: bool,
) -> None:
    """Decide each as it was seen; what somebody else decided meanwhile holds up nothing else."""
    failed, user = 0, account()
    for seen in track(
        rows, "deciding", console=progress_console, disable=plain_terminal() or len(rows) < 2
    ):
        try:
            done = decide_on(
                db, seen, decision, actor=actor, account=user, reason=reason, now=time.time()
            )
        except FillError as error:
            if len(rows) == 1:
                raise
            complain(error)
            failed += 1
            continue
        if as_json:
            print_json(as_row(done))
        elif len(rows) == 1:
            console.print(f"proposal {done.id} is {done.state}, by {signed(actor, user)}")
    if not as_json and len(rows) > 1:
        count = len(rows) - failed
        console.print(f"{count} proposals are {_DONE[decision]}, by {signed(actor, user)}")
    if failed:
        raise typer.Exit(ExitCode.NO)
