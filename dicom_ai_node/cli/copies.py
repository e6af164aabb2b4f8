"""``proposals apply`` and ``proposals preview``: the copies that carry what was accepted."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

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
    unknown_name,
)
from dicom_ai_node.cli.decide import By
from dicom_ai_node.cli.selecting import (
    DryRun,
    Everything,
    First,
    Id,
    Ids,
    Keyword,
    Last,
    Rules,
    Sources,
    Station,
    Study,
    chosen,
    existing,
    narrowed,
)
from dicom_ai_node.cli.who import account, person
from dicom_ai_node.config import Config
from dicom_ai_node.errors import FillError, UnreadableInstance
from dicom_ai_node.store import Database
from dicom_ai_node.study.proposals import ProposalState

if TYPE_CHECKING:
    from dicom_ai_node.report.copies import Change


def apply(
    ids: Ids = None,
    source: Sources = None,
    rule: Rules = None,
    keyword: Keyword = "",
    station: Station = "",
    first: First = None,
    last: Last = None,
    study: Study = "",
    everything: Everything = False,
    dry_run: DryRun = False,
    by: By = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Queue filled copies of a study's images for each destination whose 'fill' takes them.

    By ID, or of every accepted proposal that matches the filters. All accepted values of a study go
    into the same copy. Applied again, images and destinations that are new since are served. Exit
    code 1 when nothing could be applied.

    Example: dicom-ai-node proposals apply 12

    Example: dicom-ai-node proposals apply --source dates --dry-run
    """
    selection = narrowed(
        states=[ProposalState.ACCEPTED],
        sources=source,
        rules=rule,
        keyword=keyword,
        station=station,
        first=first,
        last=last,
        study=study,
    )
    settings = configuration(config)
    db, actor = open_database(settings), person(by)
    uids = dict.fromkeys(one.study_instance_uid for one in chosen(db, ids, selection, everything))
    if not uids and not as_json:
        console.print("no proposal is accepted" if everything else "no accepted proposal matches")
    failed = copies = 0
    for uid in uids:
        try:
            if dry_run:
                copies += _planned(settings, db, uid, as_json)
            else:
                _apply(settings, db, uid, actor, as_json)
        except (FillError, UnreadableInstance) as error:
            complain(f"study {uid}: {error}")
            failed += 1
    if dry_run and not as_json:
        console.print(f"{copies} copies of {len(uids) - failed} studies; nothing was queued")
    if failed:
        raise typer.Exit(ExitCode.NO)


def _planned(settings: Config, db: Database, uid: str, as_json: bool) -> int:
    from dicom_ai_node.fill.apply import plan

    found = plan(settings, db, uid)
    filled = {
        one.destination: [each.proposal.proposed.keyword for each in one.admitted]
        for one in found.taking
    }
    if as_json:
        print_json({"study_instance_uid": uid, "images": len(found.images), "filled": filled})
    else:
        where = "; ".join(f"{name}: {', '.join(keywords)}" for name, keywords in filled.items())
        console.print(f"{uid}: {len(found.images)} images, {where}")
    return found.deliveries


def _apply(settings: Config, db: Database, uid: str, actor: str, as_json: bool) -> None:
    from dicom_ai_node.fill.apply import apply as apply_study
    from dicom_ai_node.fill.apply import copy_maker
    from dicom_ai_node.spool import Spool

    spool, make = Spool(settings.storage.spool), copy_maker(db, settings.report)
    done = apply_study(
        settings, db, spool, uid, actor=actor, account=account(), make=make, now=time.time()
    )
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
    every: Annotated[
        bool, typer.Option("--all", help="Also file meta, sequences and private elements.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print what a destination would get changed, tag by tag. Sends and keeps nothing.

    The filled attributes first, then what else changes at the top of the data set; --all adds the
    provenance in sequences and private elements, and the file meta information.
    Of copies ('fill') and of images that are sent on ('forward = "coerced"'). A proposal that is
    still open is shown as if it were accepted.

    Example: dicom-ai-node proposals preview 12 --destination research
    """
    from dicom_ai_node.fill.apply import copy_maker
    from dicom_ai_node.fill.preview import preview as previews
    from dicom_ai_node.report.copies import difference
    from dicom_ai_node.spool import Spool

    settings = configuration(config)
    if destination not in settings.destinations:
        raise unknown_name("destination", destination, settings.destinations)
    db = open_database(settings)
    asked = existing(db, proposal_id)
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
        ranked = sorted(changes, key=_rank)
        lines = [change for change in ranked if every or _rank(change) < _DETAIL]
        for change in lines:
            console.print(f"  {change}", soft_wrap=True)
        if len(lines) < len(ranked):
            console.print(
                f"  and {len(ranked) - len(lines)} more that say where it comes from: --all"
            )


_DETAIL = 2


def _rank(change: "Change") -> int:
    """Return 0 for what is filled, 1 for other values of the data set, 2 for all the rest."""
    if change.path in _FILLED:
        return 0
    nested = "[" in change.path or "sequence" in (change.before, change.after)
    return _DETAIL if nested or not change.name or change.path.startswith("(0002,") else 1


_FILLED = ("(0010,1010)", "(0010,0040)")
"""PatientAge, PatientSex."""
