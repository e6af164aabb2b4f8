"""``proposals apply`` and ``proposals preview``: the copies that carry what was accepted."""

import time
from dataclasses import asdict
from typing import Annotated

import typer

from dicom_ai_node.cli.common import (
    AsJson,
    ConfigFile,
    ExitCode,
    complain,
    configuration,
    console,
    open_database,
    print_json,
)
from dicom_ai_node.cli.proposals import By, Id, one_proposal, person
from dicom_ai_node.config import Config
from dicom_ai_node.decide.decisions import ProposalState
from dicom_ai_node.errors import ConfigError, FillError, UnreadableInstance
from dicom_ai_node.store import Database
from dicom_ai_node.store.proposals import studies_in


def register(app: typer.Typer) -> None:
    """Add the commands of this module to ``proposals``."""
    for command in (apply, preview):
        app.command()(command)


def apply(
    proposal_id: Annotated[
        int | None, typer.Argument(metavar="ID", help="Number of the proposal.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every accepted proposal, study by study.")
    ] = False,
    config: ConfigFile = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Queue filled copies of a study's images for each destination whose 'fill' takes them.

    All accepted values of the study go into the same copy. Applied again, images and destinations
    that are new since are served. Exit code 1 when nothing could be applied.

    Example: dicom-ai-node proposals apply 12
    """
    if (proposal_id is None) is not everything:
        raise ConfigError("give either the ID of a proposal or --all")
    settings = configuration(config)
    db, actor = open_database(settings), person(by)
    if proposal_id is not None:
        uids = [one_proposal(db, proposal_id).proposal.study_instance_uid]
    else:
        uids = studies_in(db, ProposalState.ACCEPTED)
    if not uids and not as_json:
        console.print("no proposal is accepted")
    failed = False
    for uid in uids:
        try:
            _apply(settings, db, uid, actor, as_json)
        except (FillError, UnreadableInstance) as error:
            complain(f"study {uid}: {error}")
            failed = True
    if failed:
        raise typer.Exit(ExitCode.NO)


def _apply(settings: Config, db: Database, uid: str, actor: str, as_json: bool) -> None:
    from dicom_ai_node.fill.apply import apply as apply_study
    from dicom_ai_node.fill.copying import copy_maker
    from dicom_ai_node.spool import Spool

    spool, make = Spool(settings.storage.spool), copy_maker(db, settings.report)
    done = apply_study(settings, db, spool, uid, actor=actor, make=make, now=time.time())
    if as_json:
        print_json(
            {
                "study_instance_uid": uid,
                "images": done.images,
                "queued": done.queued,
                "destinations": {
                    one.destination: {
                        "filled": [each.proposal.proposed.keyword for each in one.admitted],
                        "refused": dict(one.refused),
                    }
                    for one in done.admissions
                },
            }
        )
        return
    before = "" if done.queued else "; those that were due have been queued before"
    console.print(f"{uid}: {done.queued} copies queued of {done.images} images{before}")
    for one in done.admissions:
        if settings.destinations[one.destination].fill == "none":
            continue  # it never asked for copies
        for keyword, reason in one.refused.items():
            console.print(f"not to {one.destination}: {keyword}: {reason}")


def preview(
    proposal_id: Id,
    destination: Annotated[str, typer.Option(help="A name under [destinations].")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print what a destination would get changed, tag by tag. Sends and keeps nothing.

    Of copies ('fill') and of images that are sent on ('forward = "coerced"'). A proposal that is
    still open is shown as if it were accepted.

    Example: dicom-ai-node proposals preview 12 --destination research
    """
    from dicom_ai_node.fill.copying import copy_maker
    from dicom_ai_node.fill.preview import preview as previews
    from dicom_ai_node.report.copies import difference
    from dicom_ai_node.spool import Spool

    settings = configuration(config)
    if destination not in settings.destinations:
        known = ", ".join(settings.destinations) or "none is configured"
        raise ConfigError(f"no destination {destination!r}; there is: {known}")
    db = open_database(settings)
    asked = one_proposal(db, proposal_id)
    spool, make = Spool(settings.storage.spool), copy_maker(db, settings.report)
    shown = previews(settings, db, spool, asked, destination, make=make, now=time.time())
    for one in shown:
        # A file that is sent as it is may be one that cannot be read.
        changes = difference(one.original, one.content) if one.content != one.original else []
        if as_json:
            print_json(
                {
                    "kind": one.kind,
                    "sop_instance_uid": one.sop_instance_uid,
                    "changes": [asdict(change) for change in changes],
                    "note": one.note,
                }
            )
            continue
        note = f": {one.note}" if one.note else ""
        console.print(f"{one.sop_instance_uid} to {destination}, {one.kind}{note}")
        for change in changes:
            console.print(f"  {change}", soft_wrap=True)
