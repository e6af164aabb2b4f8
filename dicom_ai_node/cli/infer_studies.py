"""What ``infer`` says of studies: the answer as the node decides it, and of each series."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dicom_ai_node.answers import Outcome
from dicom_ai_node.cli.by_series import SeenSeries, series_blocks
from dicom_ai_node.cli.printing import Block, Whole, shown_path, uncounted
from dicom_ai_node.inference.heads import RESERVED
from dicom_ai_node.monitor.measures import spoken

_FEW = 3
"""Findings that are named."""
_NOT_READ = frozenset({"not_sampled", "in_series"})
"""Codes of the reasons of images for which others of their series stand."""
_NOT_ANSWERS = frozenset({*RESERVED, "compared_with"})


def parts(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what each bundle says of a file."""
    yield from (document, *document.get("further", ()))


def named(part: dict[str, Any]) -> str:
    """Return the name of the bundle."""
    name = str(part["model"]["name"])
    return f"{name}, for research" if part.get("research") else name


def of_studies(done: Sequence[dict[str, Any]], paths: Sequence[Path]) -> Iterator[Block]:
    """Yield what is said of each study that is told as such, and of its series."""
    studies: dict[str, list[dict[str, Any]]] = {}
    for document in done:
        uids = {part["study"]["study_instance_uid"] for part in parts(document) if "study" in part}
        for uid in uids:
            studies.setdefault(uid, []).append(document)
    for members in studies.values():
        first = members[0]
        rules = uncounted(first["rules"])
        of = f"study of {shown_path(first['path'], paths)}"
        yield Whole(f"{of}: {len(members)} images{f'; rules {rules}' if rules else ''}")
        told: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
        for document in members:
            for part in parts(document):
                if "study" in part:
                    told.setdefault(named(part), []).append((document, part))
        for name, said in told.items():
            yield f"  {name}: {_in_words(said[0][1]['study'])}"
            yield from series_blocks(_series(said, paths))


def _in_words(study: dict[str, Any]) -> str:
    """Return the answer for the study, and how much of it was read."""
    said = _answers(study) or [one["text"] for one in study["unanswered"]] or ["no answer"]
    return f"{'; '.join(dict.fromkeys(said))} ({study['read']} of {study['offered']} images read)"


def _answers(said: dict[str, Any]) -> list[str]:
    return [in_few_words(name, one) for name, one in said.items() if name not in _NOT_ANSWERS]


def _series(
    said: Sequence[tuple[dict[str, Any], dict[str, Any]]], paths: Sequence[Path]
) -> list[SeenSeries]:
    """Return each series of a study with what a bundle says of it."""
    found: dict[str, SeenSeries] = {}
    for document, part in said:
        uid, study = document["series_instance_uid"], part["study"]
        own = {one["series_instance_uid"]: one for one in study.get("series", ())}
        one = found.setdefault(
            uid,
            SeenSeries(
                "",
                _place(document["path"], paths),
                compared_with=own[uid].get("compared_with") if uid in own else None,
            ),
        )
        one.images += 1
        one.read += part["gate"] is not None
        if part["outcome"] == Outcome.ESTIMATED:
            answers = own.get(uid, study)
            why = [reason["text"] for reason in answers["unanswered"]]
            one.shows = "; ".join(_answers(answers) or why)
        elif part["reason"] and part["reason"]["code"] not in _NOT_READ:
            one.reasons[part["reason"]["text"]] += 1
    series = list(found.values())
    if len({one.name for one in series}) < len(series):  # in one folder: by their first files
        firsts: dict[str, str] = {}
        for document, _ in said:
            firsts.setdefault(document["series_instance_uid"], document["path"])
        for one, path in zip(series, firsts.values(), strict=True):
            one.name = shown_path(path, paths)
    return series


def _place(path: str, paths: Sequence[Path]) -> str:
    """Return what tells a series from others: its folder below what was given, else a file."""
    shown = Path(shown_path(path, paths))
    return str(shown if shown.parent == Path() else shown.parent)


def doubt(answer: dict[str, Any]) -> str:
    """Return the question mark of an answer that is uncertain."""
    return "" if answer["certain"] else "?"


def in_few_words(name: str, answer: dict[str, Any]) -> str:
    """Return what a head beside age and sex answers, of findings the most probable."""
    front = spoken(name)
    if "interval90" in answer:
        low, high = answer["interval90"]
        return f"{front} {answer['estimate']:.0f}{doubt(answer)} ({low:.0f}-{high:.0f})"
    shares = answer["probabilities"]
    if "estimate" in answer:
        value = answer["estimate"]
        return f"{front} {value}{doubt(answer)} ({shares[value]:.0%})"
    most = sorted(shares.items(), key=lambda one: -one[1])[:_FEW]
    words = ", ".join(f"{spoken(label)} {share:.0%}" for label, share in most)
    rest = f", the most probable of {len(shares)}" if len(shares) > _FEW else ""
    return f"{front} {words}{rest}"
