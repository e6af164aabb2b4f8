"""Which proposals a command is about: by ID, or all that match some filters."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from dicom_ai_node.cli.common import DAYS, ExitCode, complain
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.store import Database
from dicom_ai_node.store import proposals as store
from dicom_ai_node.store.proposals import ProposalDetail, Selection, StoredProposal
from dicom_ai_node.study.proposals import ProposalState
from dicom_ai_node.types import ProposalSource

_KEYWORDS = ("PatientAge", "PatientSex")

Id = Annotated[int, typer.Argument(metavar="ID", help="Number of the proposal.")]
Ids = Annotated[
    list[int] | None, typer.Argument(metavar="[ID]...", help="Numbers of the proposals.")
]
Sources = Annotated[
    list[ProposalSource] | None,
    typer.Option("--source", help="Only these sources (may be repeated)."),
]
Rules = Annotated[
    list[str] | None,
    typer.Option("--rule", help="Only what this rule asked for, such as B3 (may be repeated)."),
]
Keyword = Annotated[str, typer.Option(help="Only PatientAge or PatientSex.")]
Station = Annotated[str, typer.Option(help="Only studies with this StationName.")]
First = Annotated[datetime | None, typer.Option("--from", formats=DAYS, help="First StudyDate.")]
Last = Annotated[datetime | None, typer.Option("--to", formats=DAYS, help="Last StudyDate.")]
Study = Annotated[str, typer.Option(help="Only this StudyInstanceUID.")]
Everything = Annotated[bool, typer.Option("--all", help="Everything that could be meant.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Count what would be done, and do nothing.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before it is done.")]


def narrowed(
    *,
    states: Sequence[ProposalState],
    sources: Sequence[ProposalSource] | None,
    rules: Sequence[str] | None,
    keyword: str,
    station: str,
    first: datetime | None,
    last: datetime | None,
    study: str,
) -> Selection:
    """Return the filters of a command line as a selection.

    Raises
    ------
    ConfigError
        A keyword or a rule that there is none of, or dates the wrong way round.
    """
    from dicom_ai_node.rules.registry import IMAGE_RULES, RULES

    if keyword and keyword not in _KEYWORDS:
        raise ConfigError(f"--keyword {keyword!r}: {' or '.join(_KEYWORDS)} was expected")
    for rule in rules or ():
        if rule not in RULES and rule not in IMAGE_RULES:
            raise ConfigError(f"--rule {rule!r}: the id of a rule was expected, such as B3")
    if first and last and first > last:
        raise ConfigError(f"--from {first:%Y-%m-%d} is after --to {last:%Y-%m-%d}")
    return Selection(
        states=states,
        sources=sources or (),
        rules=rules or (),
        keyword=keyword,
        station=station,
        first_date=f"{first:%Y%m%d}" if first else "",
        last_date=f"{last:%Y%m%d}" if last else "",
        study_instance_uid=study,
    )


def chosen(
    db: Database, ids: Sequence[int] | None, selection: Selection, everything: bool
) -> list[StoredProposal]:
    """Return the proposals with ``ids``, or all of ``selection``; the oldest first.

    Raises
    ------
    ConfigError
        Neither was given, or both.
    typer.Exit
        There is no proposal with one of the IDs.
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
        return [existing(db, one).proposal for one in dict.fromkeys(ids)]
    return store.find(db, selection)[::-1]


def existing(db: Database, proposal_id: int) -> ProposalDetail:
    """Return a proposal, or say that there is none and end with exit code 1."""
    detail = store.show(db, proposal_id)
    if detail is None:
        complain(f"no proposal {proposal_id}; 'dicom-ai-node proposals list' shows those there are")
        raise typer.Exit(ExitCode.NO)
    return detail
