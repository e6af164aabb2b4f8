"""From a site's files to its own bundle."""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from dicom_ai_node.config import Config
from dicom_ai_node.inference.bundle import Manifest
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.pipeline import Pipeline
from dicom_ai_node.recalibrate import pack
from dicom_ai_node.recalibrate.headers import Track, read_studies, trust
from dicom_ai_node.recalibrate.images import measure


def recalibrate(
    base: Path,
    paths: Sequence[Path],
    config: Config,
    out: Path,
    *,
    label: str,
    at_least: int,
    today: date,
    track: Track,
) -> Manifest:
    """Calibrate the bundle in folder ``base`` on the trusted ones of ``paths``, into ``out``.

    The rules, and the gates where it overrides the bundle's, are those of ``config``.

    Raises
    ------
    RecalibrationError
        Fewer than ``at_least`` images can be used, or ``out`` or ``label`` cannot.
    BundleError
        The bundle is incomplete or altered.
    """
    pack.check_target(out, label)
    estimator = Estimator(
        base,
        device=config.model.device,
        batch=config.model.batch,
        threads=config.model.threads or None,
    )
    gates = Pipeline(estimator, rules=config.rules, policy=config.policy).gates
    files: Counter[str] = Counter()
    studies = read_studies(paths, files, track, config.limits.bounds)
    trusted = trust(studies, config.rules, today=today, files=files)
    cases = measure(
        trusted,
        estimator,
        gates,
        decoders=config.analyse.decoders,
        limits=config.limits.bounds,
        files=files,
        track=track,
    )
    enough = pack.fewest(estimator.manifest.thresholds.in_distribution)
    pack.check_number(cases, files, max(at_least, enough))
    return pack.pack(base, cases, estimator.reference, out, label=label, today=today, files=files)
