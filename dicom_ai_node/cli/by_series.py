"""The series of a study as people read them: how many images, what they show, what is not read."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dicom_ai_node.answers import Outcome
from dicom_ai_node.cli import verdict
from dicom_ai_node.cli.printing import Block, Lines, Whole
from dicom_ai_node.decide.stored import answer_from_json, heads_in, parts_in
from dicom_ai_node.report.words import spoken

MOST_NAMED = 8
"""So many images are listed one by one where nothing else is asked for."""


@dataclass(slots=True)
class SeenSeries:
    """One series, and what one bundle says of it."""

    uid: str
    name: str
    """What a person knows it by."""
    images: int = 0
    read: int = 0
    """Images that the network saw."""
    shows: str = ""
    compared_with: str | None = None
    """The body part that it records, '' for none; None where all series record one."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why images have no answer, and how many."""


def series_blocks(series: Sequence[SeenSeries], called: str = "Series") -> Iterator[Block]:
    """Yield a table of ``series``, and below it why images of each have no answer."""
    compared = any(one.compared_with is not None for one in series)
    names = [called, "Images", "Read", *(["Compared with"] if compared else []), "Shows"]
    rows = [
        (
            one.name,
            str(one.images),
            str(one.read),
            *([one.compared_with or "-"] if compared else []),
            one.shows or "-",
        )
        for one in series
    ]
    yield Lines(names, rows, [one.uid for one in series], "SeriesInstanceUID", gives=[0])
    for one in series:
        for reason, count in one.reasons.most_common():
            yield Whole(f"  {called.lower()} {one.name}: {count} x {reason}")


def of_stored(result: Mapping[str, Any], instances: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the series of a stored result, whose study has ``instances``: rows with UIDs."""
    series_of = {one["sop_instance_uid"]: one["series_instance_uid"] for one in instances}
    counts = Counter(series_of.values())
    numbers = {uid: str(at) for at, uid in enumerate(counts, 1)}
    compared = result["audit"].get("body_part_by_series")
    blocks: list[Block] = []
    parts = parts_in(result)
    for part in parts:
        seen = {
            uid: SeenSeries(
                uid,
                number,
                images=counts[uid],
                compared_with=compared.get(uid, "") if compared else None,
            )
            for uid, number in numbers.items()
        }
        own = {one["series_instance_uid"]: one for one in part.get("series", ())}
        for image in part["images"]:
            one = seen.get(image["image"]["series_instance_uid"])
            if one is None:
                continue
            one.read += image["prediction"] is not None
            if image["reason"]:
                one.reasons[image["reason"]["text"]] += 1
            elif image["outcome"] == Outcome.ESTIMATED:
                one.shows = _shows(own.get(one.uid, part)) or _shows(part)
        if part["model"] and len(parts) > 1:
            blocks.append(f"by {part['model']['name']}")
        blocks += series_blocks(list(seen.values()))
    return blocks


def _shows(part: Mapping[str, Any]) -> str:
    """Return what is answered of a part or series in a few words, else why nothing is."""
    said = [
        f"{spoken(name)} {verdict.brief(answer_from_json(name, part[name]))}"
        for name in heads_in(part)
        if part[name]
    ]
    why = (one["reason"]["code"].replace("_", " ") for one in part["unanswered"])
    return ", ".join(said) or "; ".join(why)
