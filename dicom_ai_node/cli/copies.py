"""``proposals apply`` and ``proposals preview``: the copies that carry what was accepted."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from dicom_ai_node.cli.commands import By, ConfigFile, DryRun
from dicom_ai_node.cli.common import account, configuration, open_database, person, unknown_name
from dicom_ai_node.cli.printing import Block, Output, Whole
from dicom_ai_node.cli.proposals import Everything, Filters, Id, Ids, chosen, existing
from dicom_ai_node.config import Config
from dicom_ai_node.errors import FillError, UnreadableInstance
from dicom_ai_node.store import Database
from dicom_ai_node.study.proposals import ProposalState
from dicom_ai_node.terminal import complain

if TYPE_CHECKING:
    from dicom_ai_node.fill.admission import FillAdmission
    from dicom_ai_node.fill.apply import Applied, Plan
    from dicom_ai_node.fill.preview import FillPreview
    from dicom_ai_node.report.copies import Change

Done = TypeVar("Done")


def apply(
    ids: Ids = None,
    *,
    filters: Filters,
    everything: Everything = False,
    dry_run: DryRun = False,
    by: By = "",
    config: ConfigFile = None,
) -> Output:
    """Queue filled copies of a study's images for each destination whose 'fill' takes them.

    By ID, or of every accepted proposal that matches the filters. All accepted values of a study go
    into the same copy. Applied again, images and destinations that are new since are served. Exit
    code 1 when nothing could be applied.

    Example: dicom-ai-node proposals apply 12

    Example: dicom-ai-node proposals apply --source dates --dry-run
    """
    selection = filters.selection([ProposalState.ACCEPTED])
    settings = configuration(config)
    db, actor = open_database(settings), person(by)
    uids = dict.fromkeys(
        proposal.study_instance_uid for proposal in chosen(db, ids, selection, everything)
    )
    if dry_run:
        return _planned(settings, db, list(uids), everything)
    return _applied(settings, db, list(uids), actor, everything)


def _planned(config: Config, db: Database, uids: Sequence[str], everything: bool) -> Output:
    from dicom_ai_node.fill.apply import plan

    plans: list[Plan] = []

    def line(found: tuple[str, "Plan"]) -> Iterator[Block]:
        uid, planned = found
        filled = _filled(planned.taking).items()
        where = "; ".join(f"{name}: {', '.join(keywords)}" for name, keywords in filled)
        yield f"{uid}: {len(planned.images)} images, {where}"

    def blocks() -> Iterator[Block]:
        yield from _none(uids, everything)
        copies = sum(planned.deliveries for planned in plans)
        yield f"{copies} copies of {len(plans)} studies; nothing was queued"

    return Output(
        _each(uids, lambda uid: plan(config, db, uid), plans),
        json=lambda found: {
            "study_instance_uid": found[0],
            "images": len(found[1].images),
            "filled": _filled(found[1].taking),
        },
        each=line,
        blocks=blocks(),
        ok=lambda: len(plans) == len(uids),
    )


def _applied(
    config: Config, db: Database, uids: Sequence[str], actor: str, everything: bool
) -> Output:
    from dicom_ai_node.fill.apply import apply as apply_study
    from dicom_ai_node.fill.apply import copy_maker
    from dicom_ai_node.spool import Spool

    spool, make = Spool(config.storage.spool), copy_maker(db, config.report)
    who = {"actor": actor, "account": account()}
    studies: list[Applied] = []

    def applied(uid: str) -> "Applied":
        return apply_study(config, db, spool, uid, **who, make=make, now=time.time())

    def lines(found: tuple[str, "Applied"]) -> Iterator[Block]:
        uid, done = found
        before = "" if done.queued else "; those that were due have been queued before"
        yield f"{uid}: {done.queued} copies queued of {done.images} images{before}"
        for admission in done.admissions:
            if config.destinations[admission.destination].fill == "none":
                continue  # it never asked for copies
            for keyword, reason in admission.refused.items():
                yield f"not to {admission.destination}: {keyword}: {reason}"

    return Output(
        _each(uids, applied, studies),
        json=_applied_record,
        each=lines,
        blocks=_none(uids, everything),
        ok=lambda: len(studies) == len(uids),
    )


def _applied_record(found: tuple[str, "Applied"]) -> dict[str, Any]:
    uid, done = found
    filled = _filled(done.admissions)
    return {
        "study_instance_uid": uid,
        "images": done.images,
        "queued": done.queued,
        "destinations": {
            admission.destination: {
                "filled": filled[admission.destination],
                "refused": dict(admission.refused),
            }
            for admission in done.admissions
        },
    }


def _filled(admissions: Iterable["FillAdmission"]) -> dict[str, list[str]]:
    return {
        admission.destination: [each.proposal.proposed.keyword for each in admission.admitted]
        for admission in admissions
    }


def _none(uids: Sequence[str], everything: bool) -> Iterator[Block]:
    if not uids:
        yield "no proposal is accepted" if everything else "no accepted proposal matches"


def _each(
    uids: Sequence[str], work: Callable[[str], Done], done: list[Done]
) -> Iterator[tuple[str, Done]]:
    """Yield each study with what came of it; one that cannot be filled holds up nothing else."""
    for uid in uids:
        try:
            done.append(work(uid))
        except (FillError, UnreadableInstance) as error:
            complain(f"study {uid}: {error}")
            continue
        yield uid, done[-1]


def preview(
    proposal_id: Id,
    destination: Annotated[str, typer.Option(help="A name under [destinations].")],
    every: Annotated[
        bool, typer.Option("--all", help="Also file meta, sequences and private elements.")
    ] = False,
    config: ConfigFile = None,
) -> Output:
    """Print what a destination would get changed, tag by tag. Sends and keeps nothing.

    The filled attributes first, then what else changes at the top of the data set; --all adds the
    provenance in sequences and private elements, and the file meta information.
    Of copies ('fill') and of images that are sent on ('forward = "coerced"'). A proposal that is
    still open is shown as if it were accepted.

    Example: dicom-ai-node proposals preview 12 --destination research
    """
    from dicom_ai_node.fill.apply import copy_maker
    from dicom_ai_node.fill.preview import preview as previews
    from dicom_ai_node.spool import Spool

    settings = configuration(config)
    if destination not in settings.destinations:
        raise unknown_name("destination", destination, settings.destinations)
    db = open_database(settings)
    asked = existing(db, proposal_id)
    spool, make = Spool(settings.storage.spool), copy_maker(db, settings.report)

    def lines(shown: "FillPreview") -> Iterator[Block]:
        note = f": {shown.note}" if shown.note else ""
        yield f"{shown.sop_instance_uid} to {destination}, {shown.kind}{note}"
        ranked = sorted(_changes(shown), key=_rank)
        said = [change for change in ranked if every or _rank(change) < _DETAIL]
        for change in said:
            yield Whole(f"  {change}")
        if len(said) < len(ranked):
            yield f"  and {len(ranked) - len(said)} more that say where it comes from: --all"

    return Output(
        previews(settings, db, spool, asked, destination, make=make, now=time.time()),
        json=lambda shown: {
            "kind": shown.kind,
            "sop_instance_uid": shown.sop_instance_uid,
            "changes": [asdict(change) for change in _changes(shown)],
            "note": shown.note,
        },
        each=lines,
    )


def _changes(shown: "FillPreview") -> "list[Change]":
    from dicom_ai_node.report.copies import difference

    # A file that is sent as it is may be one that cannot be read.
    return difference(shown.original, shown.content) if shown.content != shown.original else []


_DETAIL = 2


def _rank(change: "Change") -> int:
    """Return 0 for what is filled, 1 for other values of the data set, 2 for all the rest."""
    if change.path in _FILLED:
        return 0
    nested = "[" in change.path or "sequence" in (change.before, change.after)
    return _DETAIL if nested or not change.name or change.path.startswith("(0002,") else 1


_FILLED = ("(0010,1010)", "(0010,0040)", "(0018,0015)")
"""PatientAge, PatientSex, BodyPartExamined."""
