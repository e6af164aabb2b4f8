"""Studies made of files on a disk: the public format of ``infer``, and its reports."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from dicom_ai_node import pixels
from dicom_ai_node.analyse.headers import recorded_part, status_part, without_name
from dicom_ai_node.analyse.results import result_key
from dicom_ai_node.analyse.saliency import Pictures, build_captures, explain_image
from dicom_ai_node.answers import (
    Answer,
    BundleResult,
    ImageRef,
    ImageResult,
    LabelProbabilities,
    Outcome,
    Quantity,
    Reason,
    StudyResult,
    as_certain_as,
)
from dicom_ai_node.config import Config
from dicom_ai_node.config.bundles import reporting_bundles
from dicom_ai_node.dicom.limits import Limits
from dicom_ai_node.dicom.values import sop_class_of, text_of
from dicom_ai_node.errors import InvalidReport, UnreadableInstance
from dicom_ai_node.output import make_private, write_private
from dicom_ai_node.parts import LoadedBundle, PreparedPart
from dicom_ai_node.pipeline import Pipeline, Prepared
from dicom_ai_node.report.build import build_reports
from dicom_ai_node.report.check import check_report
from dicom_ai_node.report.identity import EncodedReport
from dicom_ai_node.rules import RULES_VERSION
from dicom_ai_node.rules.body_part_meaning import BODY_PART

_TOGETHER = 8
_NO_HEADER: Final[dict[str, Any]] = {
    "kind": "picture",
    "sop_instance_uid": None,
    "series_instance_uid": None,
    "recorded": None,
    "status": None,
    "rules": [],
}


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """One line of ``infer --json``."""

    document: dict[str, Any]
    fault: str = ""
    """Why the file could not be read, or its study's report not be written."""


@dataclass(frozen=True, slots=True)
class _Study:
    uid: str
    files: list[tuple[ImageRef, Path]]
    picture: bool = False
    """Whether it is one PNG or JPEG, which has no header."""


@dataclass(frozen=True, slots=True)
class _Done:
    """A study with its result."""

    study: _Study
    prepared: Prepared
    result: StudyResult


def analyse_files(
    paths: Sequence[Path],
    config: Config,
    *,
    reports: Path | None = None,
    pictures: Pictures | None = None,
) -> Iterator[ImageAnswer]:
    """Answer for each file, grouped by study; write one report per study into ``reports``.

    Every image is analysed: ``policy.analyse`` does not count here. ``pictures`` says which
    saliency maps are written where.
    """
    policy = config.policy.model_copy(update={"analyse": "all"})
    pipeline = Pipeline.of(config, reporting_bundles(config.model), policy)
    studies, unreadable = _group(paths, config.limits.bounds)
    for path, error in unreadable:
        yield ImageAnswer(_unreadable(path, error, pipeline.bundles[0]), fault=f"{path}: {error}")
    today = datetime.now(UTC).date()

    def prepare(study: _Study) -> Prepared:
        if study.picture:
            return pipeline.prepare_picture(*study.files[0])
        return pipeline.prepare(study.uid, study.files, priors=lambda _: (), today=today)

    with ThreadPoolExecutor(config.analyse.decoders) as decoders:
        for start in range(0, len(studies), _TOGETHER):
            batch = studies[start : start + _TOGETHER]
            prepared = list(decoders.map(prepare, batch))
            pipeline.predict(prepared)
            for study, ready in zip(batch, prepared, strict=True):
                done = _Done(study, ready, pipeline.conclude(ready))
                fault = _unread_picture(done)
                if reports and not fault:
                    fault = _write_reports(done, config, reports)
                yield from _answers(done, pictures, fault)


def _group(paths: Sequence[Path], limits: Limits) -> tuple[list[_Study], list[tuple[Path, str]]]:
    """Sort files into studies; a file without StudyInstanceUID is a study of its own."""
    studies: dict[str, _Study] = {}
    unreadable = []
    for path in paths:
        if pixels.is_picture(path):
            studies[str(path)] = _Study(str(path), [(ImageRef("", "", ""), path)], picture=True)
            continue
        try:
            header = pixels.read_header(path, limits)
        except UnreadableInstance as error:
            unreadable.append((path, without_name(error, path)))
            continue
        uid = text_of(header, "StudyInstanceUID") or str(path)
        image = ImageRef(
            sop_class_uid=sop_class_of(header),
            sop_instance_uid=text_of(header, "SOPInstanceUID"),
            series_instance_uid=text_of(header, "SeriesInstanceUID"),
        )
        studies.setdefault(uid, _Study(uid, [])).files.append((image, path))
    return list(studies.values()), unreadable


def _unread_picture(done: _Done) -> str:
    """Return why a PNG or JPEG cannot be read at all, '' where it can or the study is DICOM."""
    reason = done.result.reason
    unreadable = done.study.picture and reason is not None and reason.code == "unreadable"
    return f"{done.study.uid}: {reason.text}" if reason and unreadable else ""


def _write_reports(done: _Done, config: Config, folder: Path) -> str:
    """Write the study's reports; return why that was not possible, '' when it was."""
    study, sources, result = done.study, done.prepared.sources, done.result
    if study.picture:
        return f"{study.uid}: no report: a PNG or JPEG names no patient, study or image"
    make_private(folder)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for _, path in study.files]
    digest = result_key(result, digests, RULES_VERSION)
    try:
        encoded = build_reports(
            result,
            sources,
            settings=config.report,
            rules_version=RULES_VERSION,
            digest=digest,
            created=datetime.now(UTC),
            predecessor=None,
        )
        for report in encoded:
            check_report(report.files[0].content, sources=sources, result=result)
            _write_best(report, folder)
        for capture in build_captures(done.prepared, result, settings=config.report, digest=digest):
            _write_best(capture, folder)
    except InvalidReport as error:
        return f"{study.files[0][1]}: no report: {error}"
    return ""


def _write_best(report: EncodedReport, folder: Path) -> None:
    best = report.files[0]
    write_private(folder / f"{best.sop_instance_uid}.dcm", best.content)


def _answers(done: _Done, pictures: Pictures | None, fault: str) -> Iterator[ImageAnswer]:
    for number, (image, path) in enumerate(done.study.files):
        seen = [
            (part, said, one)
            for part, said in zip(done.prepared.parts, done.result.parts, strict=True)
            for one in (*said.images, *part.more_refused, *_unread(part))
            if one.image is image
        ]
        part, said, one = seen[0]
        document = {
            "path": str(path),
            "kind": "dicom",
            "sop_instance_uid": image.sop_instance_uid,
            "series_instance_uid": image.series_instance_uid,
            **_document(done, part, said, one),
            "recorded": recorded_part(done.result.check),
            "status": status_part(done.result.check),
            "rules": list(done.result.check.rules),
            "model": _model(part.bundle),
        }
        if done.study.picture:
            document |= _NO_HEADER
        if others := seen[1:]:
            document["further"] = [
                _document(done, part, said, one) | {"model": _model(part.bundle)}
                for part, said, one in others
            ]
        document["saliency"] = [
            str(file)
            for part, said, _ in (seen if pictures else ())
            for file in _write_pictures(done, part, said, image, path, pictures)
        ]
        yield ImageAnswer(document, fault=fault if number == 0 else "")


def _unread(part: PreparedPart) -> Iterator[ImageResult]:
    """Yield what is said of the images for which others of their series stand."""
    for image in part.unread:
        if part.bundle.manifest.accepts.takes == "series":
            reason = Reason("in_series", "one of the images that the series' first one stands for")
        else:
            reason = Reason("not_sampled", "others of its series were read, this one by its header")
        yield ImageResult(image, Outcome.HEADER_ONLY, reason)


def _write_pictures(
    done: _Done,
    part: PreparedPart,
    said: BundleResult,
    image: ImageRef,
    path: Path,
    pictures: Pictures | None,
) -> list[Path]:
    if pictures is None:
        return []
    explained = explain_image(
        part,
        said,
        image,
        method=pictures.method,
        heads=pictures.heads,
        progress=pictures.progress,
    )
    return pictures.write(explained, path) if explained else []


def _document(
    done: _Done, part: PreparedPart, said: BundleResult, image: ImageResult
) -> dict[str, Any]:
    """Return the public form of what a bundle says of one image.

    Its reason to abstain from the study holds for each of the images. Where no image says alone
    what is said of the study, that stands beside.
    """
    answered = image.outcome is Outcome.ESTIMATED and said.outcome is Outcome.ESTIMATED
    reason = image.reason or said.reason
    prediction = image.prediction
    answers = said.answers_of(image.image.series_instance_uid)
    document: dict[str, Any] = {
        "outcome": image.outcome if image.reason or answered else said.outcome,
        "reason": {"code": reason.code, "text": reason.text} if reason else None,
        **dict.fromkeys(said.answers),
        "unanswered": _reasons(
            answers if image.reason is None else dict.fromkeys(said.answers, image.reason)
        ),
        "gate": None,
    }
    if prediction is not None:
        passed = {**prediction.gates, "in_distribution": prediction.in_distribution}
        document["gate"] = {name: round(value, 4) for name, value in passed.items()}
        if answered:
            stated = [name for name, one in answers.items() if not isinstance(one, Reason)]
            document |= {
                name: _answer(name, as_certain_as(prediction.answers[name], answers[name]))
                for name in stated
            }
    if said.research:
        document["research"] = True
    if part.bundle.tells_of_studies and not done.study.picture:
        document["study"] = _of_study(done, part, said)
    return document


def _of_study(done: _Done, part: PreparedPart, said: BundleResult) -> dict[str, Any]:
    """Return what a bundle says of the study, and of each series where those are several."""
    read = said.read if said.offered else len(part.tensors)
    document: dict[str, Any] = {
        "study_instance_uid": done.study.uid,
        "read": read,
        "offered": said.offered or read,
        **{name: _answer(name, answer) for name, answer in said.given.items()},
        "unanswered": _reasons(said.answers),
    }
    row = done.result.check.attributes.get(BODY_PART)
    compared = row.by_series if row is not None else {}
    if said.series:
        document["series"] = [
            {
                "series_instance_uid": one.series_instance_uid,
                **({"compared_with": compared.get(one.series_instance_uid)} if compared else {}),
                **{name: _answer(name, answer) for name, answer in one.stated.items()},
                "unanswered": _reasons(one.answers),
            }
            for one in said.series
        ]
    return document


def _answer(name: str, answer: Answer) -> dict[str, Any]:
    """Return the answer of one head for one image, as ``infer --json`` prints it."""
    if isinstance(answer, Quantity):
        return {
            "estimate": round(answer.mu, 2),
            "sd": round(answer.sigma, 2),
            "interval90": [round(end, 2) for end in answer.interval90],
            "certain": answer.certain,
        }
    shares = {value: round(share, 4) for value, share in answer.probabilities.items()}
    if isinstance(answer, LabelProbabilities):
        return {"probabilities": shares}
    if set(shares) == {"F", "M"} and name == "sex":  # as it was before there were other categories
        sex = {"estimate": answer.value, "probability_female": shares["F"]}
        return {**sex, "certain": answer.certain}
    covered = {"covered": list(answer.covered)} if len(answer.covered) > 1 else {}
    certain = {"certain": answer.certain}
    return {"estimate": answer.value, "probabilities": shares, **covered, **certain}


def _reasons(answers: Mapping[str, Answer | Reason]) -> list[dict[str, str]]:
    """Return why heads are not answered."""
    return [
        {"attribute": name, "code": reason.code, "text": reason.text}
        for name, reason in answers.items()
        if isinstance(reason, Reason)
    ]


def _unreadable(path: Path, error: str, bundle: LoadedBundle) -> dict[str, Any]:
    reason = {"code": "unreadable", "text": error}
    empty = (
        "kind",
        "sop_instance_uid",
        "series_instance_uid",
        *bundle.heads,
        "gate",
        "recorded",
        "status",
    )
    return {
        "path": str(path),
        **dict.fromkeys(empty),
        "outcome": Outcome.REFUSED,
        "reason": reason,
        "unanswered": [{"attribute": name} | reason for name in bundle.heads],
        "rules": [],
        "model": _model(bundle),
        "saliency": [],
    }


def _model(bundle: LoadedBundle) -> dict[str, str]:
    return asdict(bundle.manifest.identity)
