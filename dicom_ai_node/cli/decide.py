"""``proposals accept`` and ``proposals reject``: by ID, or all that match."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.progress import track

from dicom_ai_node.cli.commands import AsJson, By, ConfigFile, DryRun, Reason
from dicom_ai_node.cli.common import account, configuration, open_database, person, signed
from dicom_ai_node.cli.printing import Block, Output, print_blocks, table
from dicom_ai_node.cli.proposals import Everything, Filters, Ids, as_row, as_table, chosen
from dicom_ai_node.errors import ConfigError, FillError
from dicom_ai_node.store import Database
from dicom_ai_node.store.decisions import decide_on
from dicom_ai_node.store.proposals import Selection, StoredProposal
from dicom_ai_node.study.proposals import Decision, ProposalState
from dicom_ai_node.terminal import complain, console, plain_terminal, progress_console
from dicom_ai_node.types import ProposalSource

_EXAMPLES = 5
_WANTED = {
    "PatientSex": "--keyword PatientSex asks for them",
    "inferred PatientAge": "--source inference asks for them",
    "inferred PatientSex": "accept each by its ID",
    "inferred BodyPartExamined": "--source inference asks for them",
}
_DONE = {Decision.ACCEPT: "accepted", Decision.REJECT: "rejected"}


@dataclass(frozen=True, slots=True)
class Deciding:
    """What ``accept`` and ``reject`` are given, as options."""

    reason: Reason
    state: Annotated[
        ProposalState, typer.Option(help="With filters: only proposals in this state.")
    ] = ProposalState.OPEN
    everything: Everything = False
    dry_run: DryRun = False
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before it is done.")] = False
    by: By = ""
    config: ConfigFile = None


def accept(
    ids: Ids = None, *, filters: Filters, deciding: Deciding, as_json: AsJson = False
) -> Output:
    """Accept proposals: their values are right. Nothing is sent before they are applied.

    By ID, or all that match the filters. Filters take an inferred age or body part only with
    --source inference, a sex only with --keyword PatientSex, and never an inferred sex: that is
    accepted by its ID.

    Example: dicom-ai-node proposals accept 12 --by "R. Roe" --reason "asked the ward"

    Example: dicom-ai-node proposals accept --rule A1 --source header --reason "no unit" --dry-run
    """
    return _decided(Decision.ACCEPT, ids, filters, deciding, as_json)


def reject(
    ids: Ids = None, *, filters: Filters, deciding: Deciding, as_json: AsJson = False
) -> Output:
    """Reject proposals: the same value from the same source is not proposed again.

    By ID, or all that match the filters.

    Example: dicom-ai-node proposals reject 12 --reason "another patient's image"

    Example: dicom-ai-node proposals reject --station ER2 --to 2024-01-31 --reason "clock was wrong"
    """
    return _decided(Decision.REJECT, ids, filters, deciding, as_json)


def _decided(
    decision: Decision, ids: Ids, filters: Filters, given: Deciding, as_json: bool
) -> Output:
    selection = filters.selection([given.state])
    db = open_database(configuration(given.config))
    reason = given.reason.strip()
    if not reason:
        raise ConfigError(f"--reason {given.reason!r}: why you decide so was expected")
    actor = person(given.by)
    rows = chosen(db, ids, selection, given.everything)
    if decision is Decision.ACCEPT and not ids:
        rows = _acceptable(rows, selection)
    if given.dry_run:
        return Output(rows, json=as_row, blocks=_meant(rows, decision))
    if not ids:
        print_blocks(_meant(rows, decision), progress_console if as_json else console)
    if not rows or not (ids or given.yes or _confirmed(rows, decision)):
        return Output()
    return _decide(db, rows, decision, actor, reason)


def _acceptable(rows: Sequence[StoredProposal], selection: Selection) -> list[StoredProposal]:
    """Leave out what a person accepts one at a time, or has to ask for by name; say how many."""
    kinds = Counter(map(_kind, rows))
    left_out = {"inferred PatientSex"}
    if selection.keyword != "PatientSex":
        left_out.add("PatientSex")
    if ProposalSource.INFERENCE not in selection.sources:
        left_out |= {"inferred PatientAge", "inferred BodyPartExamined"}
    for kind in sorted(left_out & kinds.keys()):
        progress_console.print(f"left out: {kinds[kind]} of {kind}; {_WANTED[kind]}")
    return [row for row in rows if _kind(row) not in left_out]


def _kind(row: StoredProposal) -> str:
    inferred = row.proposed.source is ProposalSource.INFERENCE
    return f"{'inferred ' if inferred else ''}{row.proposed.keyword}"


def _meant(rows: Sequence[StoredProposal], decision: Decision) -> Iterator[Block]:
    """Say how many of which kind are meant, and show the first of them."""
    yield f"{len(rows)} proposals would be {_DONE[decision]}"
    if not rows:
        return
    kinds = Counter(
        (row.proposed.keyword, row.proposed.source, " ".join(row.proposed.rules)) for row in rows
    )
    counts = [(str(count), *kind) for kind, count in kinds.most_common()]
    yield table(("Count", "Attribute", "Source", "Rules"), counts)
    yield as_table(rows[:_EXAMPLES])
    if len(rows) > _EXAMPLES:
        yield f"... and {len(rows) - _EXAMPLES} more"


def _confirmed(rows: Sequence[StoredProposal], decision: Decision) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{len(rows)} proposals match: --yes was expected, or --dry-run to see them"
        )
    return typer.confirm(f"{decision.capitalize()} {len(rows)} proposals?", err=True)


def _decide(
    db: Database, rows: Sequence[StoredProposal], decision: Decision, actor: str, reason: str
) -> Output:
    """Decide each as it was seen; what somebody else decided meanwhile holds up nothing else."""
    done: list[StoredProposal] = []
    user = account()
    who = {"actor": actor, "account": user, "reason": reason}

    def decided() -> Iterator[StoredProposal]:
        hidden = plain_terminal() or len(rows) < 2
        for seen in track(rows, "deciding", console=progress_console, disable=hidden):
            try:
                done.append(decide_on(db, seen, decision, **who, now=time.time()))
            except FillError as error:
                if len(rows) == 1:
                    raise
                complain(error)
                continue
            yield done[-1]

    def blocks() -> Iterator[Block]:
        by = f"by {signed(actor, user)}"
        if len(rows) == 1:
            yield f"proposal {done[0].id} is {done[0].state}, {by}"
        else:
            yield f"{len(done)} proposals are {_DONE[decision]}, {by}"

    return Output(decided(), json=as_row, blocks=blocks(), ok=lambda: len(done) == len(rows))
