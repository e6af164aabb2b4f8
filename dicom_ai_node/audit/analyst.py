"""Images of an audited study, shown to the networks. No other part of an audit loads them."""

from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path

from dicom_ai_node import pixels
from dicom_ai_node.answers import ImageRef, Outcome
from dicom_ai_node.audit.campaign import AuditSpec, Depth
from dicom_ai_node.audit.study import Seen
from dicom_ai_node.config import Config
from dicom_ai_node.config.bundles import analysed_classes, reporting_bundles
from dicom_ai_node.dicom.limits import Limits
from dicom_ai_node.dicom.values import sop_class_of, text_of
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.pipeline import Pipeline
from dicom_ai_node.rules import TextHeader


class Analyst:
    """The node's own stages over fetched files: the same rules, gates and network as live."""

    def __init__(self, config: Config, spec: AuditSpec) -> None:
        analyse = "all" if spec.depth is Depth.ALL else "flagged"
        policy = config.policy.model_copy(update={"analyse": analyse})
        self._pipeline = Pipeline.of(config, reporting_bundles(config.model), policy)
        self._classes = analysed_classes(config.model)
        self._today: date = spec.today

    def __call__(self, study_instance_uid: str, files: Sequence[Path]) -> Seen:
        """Analyse one study. Of classes that the node does not analyse only headers are read."""
        headers, images = _read(files, self._pipeline.limits, self._classes)
        unreadable = len(files) - len(headers)
        if not images:
            return Seen(headers, unreadable)
        try:
            prepared = self._pipeline.prepare(
                study_instance_uid, images, priors=lambda _: (), today=self._today
            )
        except UnreadableInstance:
            return Seen((), len(files))
        self._pipeline.predict([prepared])
        result = self._pipeline.conclude(prepared)
        asked = result.outcome is not Outcome.HEADER_ONLY
        return Seen(headers, unreadable, result if asked else None)


def _read(
    files: Sequence[Path], limits: Limits, classes: Collection[str]
) -> tuple[tuple[TextHeader, ...], list[tuple[ImageRef, Path]]]:
    """Return the header of each file that can be read, and the files that the network may see."""
    headers, images = [], []
    for path in files:
        try:
            header = pixels.read_header(path, limits)
        except UnreadableInstance:
            continue
        headers.append(TextHeader.from_dataset(header))
        image = ImageRef(
            sop_class_uid=sop_class_of(header),
            sop_instance_uid=text_of(header, "SOPInstanceUID"),
            series_instance_uid=text_of(header, "SeriesInstanceUID"),
        )
        # Without a class it may be an image: an old export, a converted file.
        if image.sop_class_uid in classes or not image.sop_class_uid:
            images.append((image, path))
    return tuple(headers), images
