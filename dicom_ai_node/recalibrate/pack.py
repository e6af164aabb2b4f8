"""From a site's files to its own bundle: fits its calibration and writes what answers with it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from dicom_ai_node.config import Config
from dicom_ai_node.errors import RecalibrationError
from dicom_ai_node.inference import bundle, fitting
from dicom_ai_node.inference.bundle import Manifest, Recalibration
from dicom_ai_node.inference.calibration import Calibration, Distances, QuantityCalibration
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.heads import AGE, SEX, CategoryHead, QuantityHead
from dicom_ai_node.parts import gates_of
from dicom_ai_node.recalibrate.cases import USED, Track, measure, read_studies, trust

LABEL = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*")
"""A local version label (PEP 440)."""


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

    Raises RecalibrationError: fewer than ``at_least`` images can be used, or ``out``, ``label`` or
    bundles of this kind cannot; BundleError: the bundle is incomplete or altered.
    """
    check_target(out, label)
    check_route(bundle.load_manifest(base))
    estimator = Estimator(
        base,
        device=config.model.device,
        batch=config.model.batch,
        threads=config.model.threads or None,
    )
    gates = gates_of(estimator.manifest).overridden(config.policy)
    files: Counter[str] = Counter()
    studies = read_studies(paths, files, track, config.limits.bounds)
    trusted = trust(studies, estimator.manifest.heads, config.rules, today=today, files=files)
    cases = measure(
        trusted,
        estimator,
        gates,
        decoders=config.analyse.decoders,
        limits=config.limits.bounds,
        files=files,
        track=track,
    )
    enough = fewest(estimator.manifest.in_distribution)
    check_number(cases, files, max(at_least, enough))
    return pack(base, cases, estimator.reference, out, label=label, today=today, files=files)


def check_target(out: Path, label: str) -> None:
    """Raise RecalibrationError unless ``out`` is free and ``label`` is one."""
    if not LABEL.fullmatch(label) or len(label) > 32:
        raise RecalibrationError(
            f"label {label!r}: expected up to 32 small letters and digits, parted by dots"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RecalibrationError(f"{out}: expected a folder that does not exist or is empty")


def fewest(threshold: float) -> int:
    """Images below which no p-value falls under ``threshold``: its gate would let all pass."""
    return int(1 / threshold) if threshold > 0 else 1


def check_route(manifest: Manifest) -> None:
    """Raise RecalibrationError unless one image says of a bundle what the header can be held to."""
    if manifest.accepts.takes == "series":
        raise RecalibrationError(
            f"{manifest.name}: an input of it is a series; recalibrating takes single images"
        )
    if manifest.spans:
        # A header names the part that was asked for; the sections show what lies around it, too.
        named = ", ".join(sorted(manifest.spans))
        raise RecalibrationError(
            f"{manifest.name}: no header says what a single image shows of {named}"
        )


def check_number(cases: Cases, files: Mapping[str, int], at_least: int) -> None:
    """Raise RecalibrationError, with a count for each reason, when there are too few cases."""
    if len(cases) >= at_least:
        return
    others = sorted((-n, reason) for reason, n in files.items() if reason != USED)
    reasons = ", ".join(f"{reason} {-n}" for n, reason in others) or "none"
    raise RecalibrationError(
        f"expected at least {at_least} usable images, found {len(cases)} in"
        f" {sum(files.values())} files; files not used: {reasons}"
    )


def pack(
    base: Path,
    cases: Cases,
    reference: Distances,
    out: Path,
    *,
    label: str,
    today: date,
    files: Counter[str],
) -> Manifest:
    """Calibrate the bundle in folder ``base`` on ``cases`` and write it to ``out``.

    ``reference`` are the distances that the bundle came with. The network's tensors stay what they
    are; how fast intervals widen with the distance stays too, but from the site's own median on.
    """
    old = bundle.load_manifest(base)

    calibrations = old.calibration.root
    widening = {name: calibration.widening for name, calibration in calibrations.items()}
    smallest = {
        calibration.smallest_group
        for calibration in calibrations.values()
        if isinstance(calibration, QuantityCalibration)
    }

    tilted = any(
        bool(one.tilt) for one in calibrations.values() if isinstance(one, QuantityCalibration)
    )

    def fit(chosen: NDArray[np.bool_]) -> Calibration:
        made = fitting.fit(
            cases.at(chosen),
            widening,
            smallest=max(smallest, default=fitting.SMALLEST_GROUP),
            tilted=tilted,
        )
        return Calibration({**calibrations, **made.root})  # a head without truth keeps its own

    new = fit(np.ones(len(cases), dtype=np.bool_))
    heads = {head.name: head for head in old.heads if head.name in cases.truth}
    recalibration = Recalibration(
        base_version=old.version,
        base_sha256=old.sha256,
        date=today,
        images=len(cases),
        patients=len(np.unique(cases.patients)),
        files=dict(sorted(files.items())),
    )
    if isinstance(age := heads.get(AGE.name), QuantityHead):
        years = cases.truth[age.name]
        before = fitting.intervals(old.calibration, reference, cases, age)
        after = fitting.cross_fitted(cases, fit, age)
        covered = {
            "before": fitting.summary(before, years),
            "after": fitting.summary(after, years),
        }
        recalibration = recalibration.model_copy(update=covered)
    if isinstance(sex := heads.get(SEX.name), CategoryHead):
        losses = (
            round(fitting.log_loss(old.calibration, reference, cases, sex), 4),
            round(fitting.log_loss(new, cases.reference, cases, sex), 4),
        )
        recalibration = recalibration.model_copy(update={"sex_log_loss": losses})
    changes = {
        "version": f"{old.version.split('+')[0]}+{label}",
        "calibration": new,
        "figures": (),
        "recalibration": recalibration,
    }
    return _write(base, out, old.model_copy(update=changes), cases.reference)


def _write(base: Path, out: Path, manifest: Manifest, reference: Distances) -> Manifest:
    """Write the three files beside ``out`` first, so that a broken run leaves no bundle."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as work:
        folder = Path(work) / "bundle"
        folder.mkdir()
        tensors = load_file(base / bundle.WEIGHTS)
        tensors["content.reference"] = reference.content.astype(np.float32)
        tensors["texture.reference"] = reference.texture.astype(np.float32)
        save_file(tensors, folder / bundle.WEIGHTS)
        (folder / bundle.WEIGHTS).chmod(0o644)
        digest = bundle.sha256(folder / bundle.WEIGHTS)
        manifest = manifest.model_copy(update={"sha256": digest})
        (folder / bundle.MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        (folder / bundle.CARD).write_text(card(manifest, base))
        bundle.verify(folder)
        folder.replace(out)
    return manifest


def card(manifest: Manifest, base: Path) -> str:
    """CARD.md: what was done here, then the card that the bundle came with."""
    made = manifest.recalibration
    assert made is not None
    lines = [
        f"| {b.level} % | {b.coverage:.3f} | {b.width:.1f} | {a.coverage:.3f} | {a.width:.1f} |"
        for b, a in zip(made.before, made.after, strict=True)
    ]
    came_with = base / bundle.CARD
    return "\n".join(
        [
            f"# {manifest.name} {manifest.version}",
            "",
            f"Recalibrated on {made.date.isoformat()} on {made.images:,} images of"
            f" {made.patients:,} patients of one site, whose headers passed every rule, from"
            f" version {made.base_version} (weights SHA-256 `{made.base_sha256}`). The network is"
            " the same. Changed are the age intervals, the certainty of the sex and the"
            " in-distribution score. **Not a medical device.**",
            "",
            "| age interval | coverage before | width before, years | coverage after | width after,"
            " years |",
            "|---|---:|---:|---:|---:|",
            *lines,
            "",
            "After: cross-fitted by patient. Below is the card that the bundle came with. Its age"
            " errors and AUC still describe the network on the data named there; its coverage,"
            " widths, calibration errors and shares that pass a gate do not describe this bundle.",
            "",
            "---",
            "",
            came_with.read_text() if came_with.exists() else "The bundle came without a card.\n",
        ]
    )
