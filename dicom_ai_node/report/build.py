"""`StudyResult` + source headers -> reports as bytes."""

from collections.abc import Sequence
from datetime import datetime

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from dicom_ai_node.answers import StudyResult
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.classes import REPORTS, SECONDARY_CAPTURE
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.errors import InvalidReport
from dicom_ai_node.report.capture import ExplainedImage, saliency_capture, secondary_capture
from dicom_ai_node.report.document import Frame, sr_document
from dicom_ai_node.report.elements import frozen
from dicom_ai_node.report.identity import EncodedReport, Predecessor, ReportIdentity
from dicom_ai_node.report.modules import named_images, ordered
from dicom_ai_node.report.text import subject
from dicom_ai_node.report.tree import content_tree


def build_reports(
    result: StudyResult,
    sources: Sequence[Dataset],
    *,
    settings: ReportSettings,
    rules_version: str,
    digest: str,
    created: datetime,
    predecessor: Predecessor | None = None,
) -> tuple[EncodedReport, ...]:
    """Return the reports on one study, ready to be sent.

    Pure: the same arguments give the same bytes, in whatever order ``sources`` come.

    Parameters
    ----------
    result
        What the report says.
    sources
        Headers of all images that were read for the study, whatever became of them. Patient and
        study are copied from the first in order of series and SOP Instance UID.
    digest
        Identifies what was analysed. Two results that differ need two digests, unless the network
        or the rules tell them apart: UIDs follow from study, digest, weights and rules alone.
    created
        Content Date and Time. A retry passes the same value.
    predecessor
        The report that this one replaces; each of the three objects names its counterpart.

    Returns
    -------
    tuple
        ``sr`` as Comprehensive 3D, Comprehensive and Enhanced SR with one content tree, each with
        its own SOP Instance UID; then ``sc``, where ``settings`` ask for it.

    Raises InvalidReport: when the sources are none or of several studies, or the report would
    replace itself.
    """
    identity = _identity(result, digest, rules_version)
    own = {identity.sop_instance_uid(sop_class) for sop_class in REPORTS}
    if predecessor is not None and not own.isdisjoint(predecessor.sop_instance_uids.values()):
        raise InvalidReport("a report cannot replace itself")
    sources = ordered(sources)
    frame = _frame(result, sources, identity, settings, created)
    with disable_value_validation():  # a source may name itself by an illegal UID
        tree = frozen(content_tree(result, frame.images, identity=identity, settings=settings))
        files = [
            sr_document(frame, tree, sop_class_uid=sop_class, predecessor=predecessor)
            for sop_class in REPORTS
        ]
        reports = [EncodedReport("sr", tuple(map(frame.file, REPORTS, files)))]
        if settings.secondary_capture:
            capture = secondary_capture(frame, result)
            reports.append(EncodedReport("sc", (frame.file(SECONDARY_CAPTURE, capture),)))
    return tuple(reports)


def build_saliency(
    result: StudyResult,
    sources: Sequence[Dataset],
    explained: Sequence[ExplainedImage],
    *,
    settings: ReportSettings,
    rules_version: str,
    digest: str,
    created: datetime,
) -> tuple[EncodedReport, ...]:
    """Return a ``saliency`` report for each of ``explained``: one Secondary Capture of its maps.

    Parameters and errors as for :func:`build_reports`; ``settings.saliency`` names the method. In
    order of series and SOP Instance UID. None replaces another: a changed result gets new ones in
    the same series.
    """
    identity = _identity(result, digest, rules_version)
    sources = ordered(sources)
    frame = _frame(result, sources, identity, settings, created)
    headers = {text_of(ds, "SOPInstanceUID"): ds for ds in sources}
    reports = []
    with disable_value_validation():
        for number, one in enumerate(sorted(explained, key=_place), start=1):
            header = headers.get(one.image.sop_instance_uid, frame.source)
            uid = one.image.sop_instance_uid
            parts = [each for each in result.parts if uid in each.seen]
            file = saliency_capture(frame, one, parts, header=header, number=number)
            reports.append(EncodedReport("saliency", (file,), subject=one.image.sop_instance_uid))
    return tuple(reports)


def _frame(
    result: StudyResult,
    sources: Sequence[Dataset],
    identity: ReportIdentity,
    settings: ReportSettings,
    created: datetime,
) -> Frame:
    images = named_images(sources, result.images)
    return Frame(sources[0], images, identity, settings, created, subject(result))


def _identity(result: StudyResult, digest: str, rules_version: str) -> ReportIdentity:
    """Name the first network alone: the digest tells others apart."""
    model = result.parts[0].model
    return ReportIdentity(
        study_instance_uid=result.study_uid,
        digest=digest,
        model_sha256=model.sha256 if model else "",
        rules_version=rules_version,
    )


def _place(explained: ExplainedImage) -> tuple[str, str]:
    return explained.image.series_instance_uid, explained.image.sop_instance_uid
