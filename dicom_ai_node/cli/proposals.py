"""``proposals``: what could fill or mend a header, and who decided what about it."""

import getpass
import time
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dicom_ai_node.cli.common import (
    AsJson,
    ConfigFile,
    ExitCode,
    complain,
    configuration,
    console,
    open_database,
    print_json,
    when,
    whole,
)
from dicom_ai_node.config import Config
from dicom_ai_node.decide.decisions import POLICY, Decision, ProposalState
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.store import Database
from dicom_ai_node.store import proposals as store
from dicom_ai_node.store.decisions import ANALYSER, decide_on
from dicom_ai_node.store.forwards import GATEWAY
from dicom_ai_node.store.proposals import ProposalDetail, StoredProposal
from dicom_ai_node.store.stuck_fills import Stuck, why_stuck
from dicom_ai_node.types import ProposalSource

app = typer.Typer(
    help="Values proposed for missing and implausible header fields: decide on them, apply them.",
    no_args_is_help=True,
)

_LONGEST_NAME = 128

Id = Annotated[int, typer.Argument(metavar="ID", help="Number of the proposal.")]
By = Annotated[str, typer.Option("--by", help="Who decides. Default: the user of this session.")]
Why = Annotated[str, typer.Option("--reason", help="Why.")]


@app.command("list")
def list_(
    config: ConfigFile = None,
    state: Annotated[
        list[ProposalState] | None, typer.Option(help="Only these states (may be repeated).")
    ] = None,
    source: Annotated[
        list[ProposalSource] | None, typer.Option(help="Only these sources (may be repeated).")
    ] = None,
    keyword: Annotated[str, typer.Option(help="Only PatientAge or PatientSex.")] = "",
    study: Annotated[str, typer.Option(help="Only this StudyInstanceUID.")] = "",
    stuck: Annotated[
        bool, typer.Option("--stuck", help="Only accepted ones that [fill] auto_apply could not.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List proposals, newest first.

    Example: dicom-ai-node proposals list --state open --source inference
    """
    if keyword not in ("", "PatientAge", "PatientSex"):
        raise ConfigError(f"--keyword {keyword!r}: PatientAge or PatientSex was expected")
    rows = store.find(
        open_database(configuration(config)),
        states=state or (),
        sources=source or (),
        keyword=keyword,
        study_instance_uid=study,
        stuck=stuck,
        limit=limit,
    )
    if as_json:
        for row in rows:
            print_json(_row(row))
        return
    table = Table("ID", "Attribute", "Value", "Source", "State", "From", whole("Study"), box=None)
    for row in rows:
        one = row.proposed
        study_uid = row.study_instance_uid
        table.add_row(
            str(row.id), one.keyword, one.value, one.source, row.state, one.detail, study_uid
        )
    console.print(table)
    console.print(f"{len(rows)} proposals" + (" (more may follow)" if len(rows) == limit else ""))


@app.command()
def show(proposal_id: Id, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show one proposal: value, source, interval or probability, rules, every decision.

    Example: dicom-ai-node proposals show 12
    """
    db = open_database(configuration(config))
    detail = one_proposal(db, proposal_id)
    row = detail.proposal
    accepted = row.state is ProposalState.ACCEPTED
    stuck = why_stuck(db, row.study_instance_uid) if accepted else None
    if as_json:
        print_json(_detail(detail, stuck))
        return
    one = row.proposed
    console.print(Text.assemble((f"{one.keyword} = {one.value}", "bold"), f"  {row.state}"))
    console.print(f"study {row.study_instance_uid}")
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
        table.add_row(when(event.at), event.actor, event.from_state, event.to_state, event.reason)
    console.print(table)


@app.command()
def accept(
    proposal_id: Id,
    reason: Why,
    config: ConfigFile = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Accept a proposal: its value is right. Nothing is sent before it is applied.

    Example: dicom-ai-node proposals accept 12 --by "R. Roe" --reason "asked the ward"
    """
    _decide(proposal_id, Decision.ACCEPT, configuration(config), by, reason, as_json)


@app.command()
def reject(
    proposal_id: Id,
    reason: Why,
    config: ConfigFile = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Reject a proposal: the same value from the same source is not proposed again.

    Example: dicom-ai-node proposals reject 12 --reason "another patient's image"
    """
    _decide(proposal_id, Decision.REJECT, configuration(config), by, reason, as_json)


def _decide(
    proposal_id: int, decision: Decision, settings: Config, by: str, reason: str, as_json: bool
) -> None:
    db = open_database(settings)
    seen = one_proposal(db, proposal_id).proposal
    if not reason.strip():
        raise ConfigError(f"--reason {reason!r}: why you decide so was expected")
    now = time.time()
    actor = person(by)
    done = decide_on(db, seen, decision, actor=actor, reason=reason.strip(), now=now)
    if as_json:
        print_json(_row(done))
    else:
        console.print(f"proposal {proposal_id} is {done.state}, by {actor}")


def one_proposal(db: Database, proposal_id: int) -> ProposalDetail:
    """Return a proposal, or say that there is none and end with exit code 1."""
    detail = store.show(db, proposal_id)
    if detail is None:
        complain(f"no proposal {proposal_id}; 'dicom-ai-node proposals list' shows those there are")
        raise typer.Exit(ExitCode.NO)
    return detail


def person(by: str) -> str:
    """Return the name to write down: ``--by``, else this session's user."""
    name = by.strip()
    if not name:
        try:
            name = getpass.getuser()
        except (OSError, KeyError):  # a user without a name, as in a container
            raise ConfigError(
                "this session's user has no name: say who decides with --by"
            ) from None
    if name in (POLICY, ANALYSER, GATEWAY) or len(name) > _LONGEST_NAME or not name.isprintable():
        raise ConfigError(
            f"--by {name[:40]!r}: the name of a person was expected, of at most {_LONGEST_NAME} "
            f"characters and not '{POLICY}', '{ANALYSER}' or '{GATEWAY}'"
        )
    return name


def _row(row: StoredProposal) -> dict[str, Any]:
    one = row.proposed
    return {
        "id": row.id,
        "study_instance_uid": row.study_instance_uid,
        "keyword": one.keyword,
        "value": one.value,
        "source": one.source,
        "detail": one.detail,
        "interval90": list(one.interval90) if one.interval90 else None,
        "probability": one.probability,
        "rules": list(one.rules),
        "state": row.state,
        "created_at": when(row.created_at),
        "updated_at": when(row.updated_at),
    }


def _detail(detail: ProposalDetail, stuck: Stuck | None) -> dict[str, Any]:
    return _row(detail.proposal) | {
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
                "from": one.from_state,
                "to": one.to_state,
                "reason": one.reason,
            }
            for one in detail.events
        ],
    }
