"""From a site's files to its own bundle: fits its calibration and writes what answers with it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

import numpy as np
from safetensors.numpy import load_file, save_file

from dicom_ai_node.config import Config
from dicom_ai_node.errors import RecalibrationError
from dicom_ai_node.inference import bundle, coverage
from dicom_ai_node.inference.bundle import Manifest, Recalibration
from dicom_ai_node.inference.distances import Distances
from dicom_ai_node.inference.engine import SPACES, Estimator, read_tensors
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.heads import AGE, SEX, CategoryHead, QuantityHead
from dicom_ai_node.monitor.observation import Observation
from dicom_ai_node.parts import gates_of
from dicom_ai_node.recalibrate.cases import USED, Track, measure, read_studies, trust
from dicom_ai_node.recalibrate.moves import decide, fit_of
from dicom_ai_node.recalibrate.observed import observed_cases

LABEL = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*")
"""A local version label (PEP 440)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a recalibration, whatever its cases come from."""

    label: str
    """Follows the version's '+'."""
    at_least: int
    """Fewest images that make a bundle."""
    today: date
    move: bool = True
    """Whether estimates may be moved; else what moving them would gain is told."""


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """A calibration of a site's own, not written yet."""

    base: Path
    manifest: Manifest
    """Its ``sha256`` is that of the base until it is written."""
    reference: Distances

    def write(self, out: Path) -> Manifest:
        """Write the bundle to ``out``, and return its manifest."""
        return _write(self.base, out, self.manifest, self.reference)


def recalibrate(
    base: Path, paths: Sequence[Path], config: Config, wanted: Wanted, track: Track
) -> Recalibrated:
    """Calibrate the bundle in folder ``base`` on the trusted ones of ``paths``.

    The rules, and the gates where it overrides the bundle's, are those of ``config``.

    Raises RecalibrationError: fewer than ``wanted.at_least`` images can be used, or the label or
    bundles of this kind cannot; BundleError: the bundle is incomplete or altered.
    """
    check_label(wanted.label)
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
    trusted = trust(
        studies, estimator.manifest.heads, config.rules, today=wanted.today, files=files
    )
    cases = measure(
        trusted,
        estimator,
        gates,
        decoders=config.analyse.decoders,
        limits=config.limits.bounds,
        files=files,
        track=track,
    )
    return recalibrated(base, cases, estimator.reference, wanted, files)


def recalibrate_observed(
    base: Path, observations: Sequence[Observation], wanted: Wanted
) -> Recalibrated:
    """Do the same with what the monitor has observed of the network, and no image.

    ``observations`` are of bundles with the same network, see :func:`.observed.same_network`.
    """
    check_label(wanted.label)
    manifest = bundle.verify(base)
    check_route(manifest)
    studies: Counter[str] = Counter()
    cases = observed_cases(observations, manifest, studies)
    known = read_tensors(base / bundle.WEIGHTS)
    far = (known[f"{name}.reference"].astype(np.float64) for name in SPACES)
    reference = Distances(*far).reference
    return recalibrated(base, cases, reference, wanted, studies, observed=True)


def check_label(label: str) -> None:
    """Raise RecalibrationError unless ``label`` is one."""
    if not LABEL.fullmatch(label) or len(label) > 32:
        raise RecalibrationError(
            f"label {label!r}: expected up to 32 small letters and digits, parted by dots"
        )


def check_target(out: Path) -> None:
    """Raise RecalibrationError unless ``out`` is free."""
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


def check_number(
    cases: Cases, counted: Mapping[str, int], at_least: int, what: str = "files"
) -> None:
    """Raise RecalibrationError, with a count for each reason, when there are too few cases."""
    if len(cases) >= at_least:
        return
    others = sorted((-n, reason) for reason, n in counted.items() if reason != USED)
    reasons = ", ".join(f"{reason} {-n}" for n, reason in others) or "none"
    raise RecalibrationError(
        f"expected at least {at_least} usable images, found {len(cases)} in"
        f" {sum(counted.values())} {what}; {what} not used: {reasons}"
    )


def recalibrated(
    base: Path,
    cases: Cases,
    reference: Distances,
    wanted: Wanted,
    counted: Counter[str],
    *,
    observed: bool = False,
) -> Recalibrated:
    """Calibrate the bundle in folder ``base`` on ``cases``.

    ``reference`` are the distances that the bundle came with, ``counted`` the files (or studies,
    where they were ``observed``). The network's tensors stay what they are; how fast intervals
    widen with the distance stays too, but from the site's own median on.

    Raises RecalibrationError: there are too few.
    """
    old = bundle.load_manifest(base)
    what = "studies" if observed else "files"
    check_number(cases, counted, max(wanted.at_least, fewest(old.in_distribution)), what)
    fit = fit_of(old.calibration)
    decided = decide(cases, fit)
    moved = decided.heads if wanted.move else frozenset()
    new = fit(cases, moved)
    recalibration = Recalibration(
        base_version=old.version,
        base_sha256=old.sha256,
        date=wanted.today,
        images=len(cases),
        patients=len(np.unique(cases.patients)),
        files=dict(sorted(counted.items())),
        observed=observed,
        moved=tuple(
            told.model_copy(update={"packed": told.head in moved}) for told in decided.told
        ),
    )
    heads = {head.name: head for head in cases.heads if head.name in cases.truth}
    if isinstance(age := heads.get(AGE.name), QuantityHead):
        years = cases.truth[age.name]
        before = coverage.intervals(old.calibration, reference, cases, age)
        after = coverage.cross_fitted(cases, lambda chosen: fit(cases.at(chosen), moved), age)
        covered = {
            "before": coverage.summary(before, years),
            "after": coverage.summary(after, years),
        }
        recalibration = recalibration.model_copy(update=covered)
    if isinstance(sex := heads.get(SEX.name), CategoryHead):
        losses = (
            round(coverage.log_loss(old.calibration, reference, cases, sex), 4),
            round(coverage.log_loss(new, cases.reference, cases, sex), 4),
        )
        recalibration = recalibration.model_copy(update={"sex_log_loss": losses})
    changes = {
        "version": f"{old.version.split('+')[0]}+{wanted.label}",
        "calibration": new,
        "figures": (),
        "recalibration": recalibration,
    }
    return Recalibrated(base, old.model_copy(update=changes), cases.reference)


def _write(base: Path, out: Path, manifest: Manifest, reference: Distances) -> Manifest:
    """Write the files beside ``out`` first, so that a broken run leaves no bundle."""
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
        if manifest.onnx_sha256:  # the graph names the tensors of the network, which stay
            copyfile(base / bundle.NETWORK_FILE, folder / bundle.NETWORK_FILE)
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
    moved = [found.head for found in made.moved if found.packed]
    return "\n".join(
        [
            f"# {manifest.name} {manifest.version}",
            "",
            f"Recalibrated on {made.date.isoformat()} on {made.images:,} images of"
            f" {made.patients:,} patients of one site, whose headers passed every rule, from"
            f" version {made.base_version} (weights SHA-256 `{made.base_sha256}`). The network is"
            " the same. Changed are the age intervals, the certainty of the sex and the"
            " in-distribution score."
            f" Moved, and by how much: {', '.join(moved) or 'nothing'}."
            " **Not a medical device.**",
            "",
            *_moved_lines(made),
            "| age interval | coverage before | width before, years | coverage after | width after,"
            " years |",
            "|---|---:|---:|---:|---:|",
            *lines,
            "",
            "After: cross-fitted by patient. Below is the card that the bundle came with. Its age"
            " errors and AUC still describe the network on the data named there, before anything"
            " is moved; its coverage, widths, calibration errors and shares that pass a gate do not"
            " describe this bundle.",
            "",
            "---",
            "",
            came_with.read_text() if came_with.exists() else "The bundle came without a card.\n",
        ]
    )


def _moved_lines(made: Recalibration) -> list[str]:
    """What moving gains on patients that it was not fitted to, as a table."""
    if not made.moved:
        return []
    rows = [
        f"| {found.head}{f', {gain.group}' if gain.group else ''} | {gain.images:,}"
        f" | {gain.before:.3f} | {gain.after:.3f}"
        f" | {gain.gain:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
        f" | {gain.bias_before:+.3f} | {gain.bias_after:+.3f}"
        f" | {'yes' if found.packed else 'no'} |"
        for found in made.moved
        for gain in (found.of_all, *found.by_age)
    ]
    return [
        "| of | images | error before | after | gain (95 %) | bias before | after | moved |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
        *rows,
        "",
        "Error: of the age the mean absolute error in years, by recorded decade too; of the sex the"
        " log loss in nats, and the bias is that of the probability of F. Each patient's by a"
        " movement that was not fitted to the patient. Moved is what has a gain whose interval"
        " holds no loss.",
        "",
    ]
