"""From images to answers: which image may be used, and what all of them say together.

Images of one patient err together, so precision only weights them against each other: neither the
standard deviation nor the interval of a study shrinks with their number.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dicom_ai_node.answers import (
    Answer,
    BundleResult,
    Category,
    ImageRef,
    ImageResult,
    LabelProbabilities,
    Outcome,
    Prediction,
    Quantity,
    Reason,
)
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.dicom.body_parts import along_the_body, combined
from dicom_ai_node.likeness import Embedding, together
from dicom_ai_node.rules.attributes import OF_SERIES

OUTSIDE_TRAINING = "outside_training_ages"
"""Code of the reason of a study whose recorded age the network was not trained on."""
OUT_OF_DISTRIBUTION = "out_of_distribution"
"""Code of the reason of an image unlike those of the calibration."""

LEAST_SHARE = 0.15
"""Of the images of a series, so that one that is mistaken adds no part of the body."""

_CLIP = 1e-6


@dataclass(frozen=True, slots=True)
class Gates:
    """What an image must pass, and the ages that the network knows."""

    thresholds: Mapping[str, float]
    """Smallest probability at which an image passes each gate, in the order of asking."""
    reasons: Mapping[str, Reason]
    """Of each gate: why there is no answer below it."""
    in_distribution: float
    """Smallest conformal p-value."""
    ages: tuple[float, float]
    """Youngest and oldest age of the training data, years."""

    def named(self, code: str) -> str:
        """Return the gate that gives the reason of that code, '' when none does."""
        if code == OUT_OF_DISTRIBUTION:
            return "in_distribution"
        return next((name for name, reason in self.reasons.items() if reason.code == code), "")

    def overridden(self, policy: PolicySettings) -> "Gates":
        """Return these gates with the thresholds that ``policy`` sets."""

        wanted = {"chest": policy.min_chest, "frontal": policy.min_frontal}
        set_by_policy = {
            name: least
            for name, least in wanted.items()
            if least is not None and name in self.thresholds
        }
        near = policy.min_in_distribution
        return replace(
            self,
            thresholds={**self.thresholds, **set_by_policy},
            in_distribution=self.in_distribution if near is None else near,
        )


def judge(image: ImageRef, prediction: Prediction, gates: Gates) -> ImageResult:
    """Accept the prediction of one image, or abstain with the first gate that it fails.

    The view and the body part come from the pixels: headers are wrong about them too often.
    """
    reason = _failed_gate(prediction, gates)
    outcome = Outcome.ABSTAINED if reason else Outcome.ESTIMATED
    return ImageResult(image=image, outcome=outcome, reason=reason, prediction=prediction)


def judge_frames(image: ImageRef, predictions: Sequence[Prediction], gates: Gates) -> ImageResult:
    """Judge one image of one or more frames: what those say together that pass the gates.

    Where none does, the reason is that of the first.
    """
    judged = [judge(image, prediction, gates) for prediction in predictions]
    usable = [one for one in judged if one.outcome is Outcome.ESTIMATED]
    if len(usable) < 2:
        return (*usable, *judged)[0]
    seen = [one.prediction for one in usable if one.prediction is not None]
    return replace(
        usable[0],
        prediction=Prediction(
            pool(seen),
            {name: float(np.mean([one.gates[name] for one in seen])) for name in seen[0].gates},
            float(np.mean([one.in_distribution for one in seen])),
            _embedding(seen),
        ),
    )


def embedding_of(parts: Iterable[BundleResult]) -> Embedding | None:
    """Return the embedding of a study: of its images that passed all gates of one bundle.

    None where no bundle embeds any. What is for research is compared with nothing.
    """
    for part in parts:
        usable = [one for one in part.images if one.outcome is Outcome.ESTIMATED]
        found = _embedding([one.prediction for one in usable if one.prediction is not None])
        if found is not None and not part.research:
            return found
    return None


def _embedding(predictions: Iterable[Prediction]) -> Embedding | None:
    return together([one.embedding for one in predictions if one.embedding is not None])


def _failed_gate(prediction: Prediction, gates: Gates) -> Reason | None:
    for name, least in gates.thresholds.items():
        probability, reason = prediction.gates[name], gates.reasons[name]
        if probability < least:
            return Reason(reason.code, f"{reason.text} (probability {probability:.2f})")
    if prediction.in_distribution < gates.in_distribution:
        return Reason(
            OUT_OF_DISTRIBUTION,
            "unlike the images that the network was calibrated on "
            f"(p = {prediction.in_distribution:.3f})",
        )
    return None


def pool_images(images: Iterable[ImageResult]) -> dict[str, Answer]:
    """Return the answer of each head from those images that the network answered.

    Empty where it answered none.
    """
    usable = [one for one in images if one.outcome is Outcome.ESTIMATED]
    seen = [(one.prediction, one.image.series_instance_uid) for one in usable if one.prediction]
    return pool(*zip(*seen, strict=True)) if seen else {}


def pool_series(images: Iterable[ImageResult]) -> dict[str, dict[str, Answer]]:
    """Return the same of each series by its UID, of heads held against an attribute of a series."""
    members: dict[str, list[Prediction]] = {}
    for one in images:
        if one.outcome is Outcome.ESTIMATED and one.prediction is not None:
            members.setdefault(one.image.series_instance_uid, []).append(one.prediction)
    return {
        uid: {
            name: answer
            for name, answer in pool(predictions).items()
            if isinstance(answer, Category) and answer.attribute in OF_SERIES
        }
        for uid, predictions in members.items()
    }


def pool(predictions: Sequence[Prediction], series: Sequence[str] = ()) -> dict[str, Answer]:
    """Return the answer of each head from one or more images.

    ``series`` names that of each; without it all are of one.
    """
    series = series or [""] * len(predictions)
    return {
        name: _pooled([one.answers[name] for one in predictions], series)
        for name in predictions[0].answers
    }


def _pooled(answers: Sequence[Answer], series: Sequence[str]) -> Answer:
    spans: dict[str, list[Category]] = {}
    for answer, uid in zip(answers, series, strict=True):
        if isinstance(answer, Category) and answer.covered:
            spans.setdefault(uid, []).append(answer)
    if spans:
        return pool_spans(list(spans.values()))
    quantities = [one for one in answers if isinstance(one, Quantity)]
    if quantities:
        return pool_quantity(quantities)
    categories = [one for one in answers if isinstance(one, Category)]
    if categories:
        return pool_category(categories)
    findings = [one for one in answers if isinstance(one, LabelProbabilities)]
    labels = findings[0].probabilities
    return LabelProbabilities(
        {x: _pooled_share([one.probabilities[x] for one in findings]) for x in labels}
    )


def pool_quantity(answers: Sequence[Quantity]) -> Quantity:
    """Return the precision-weighted quantity of one or more images."""
    sigma = np.array([one.sigma for one in answers])
    weight = sigma**-2.0 / np.sum(sigma**-2.0)
    low, high = weight @ np.array([one.interval90 for one in answers])
    return Quantity(
        mu=float(weight @ np.array([one.mu for one in answers])),
        sigma=float(weight @ sigma),
        interval90=(float(low), float(high)),
        unit=answers[0].unit,
        attribute=answers[0].attribute,
    )


def pool_category(answers: Sequence[Category]) -> Category:
    """Return the mean over images on the logit scale, of many values on that of logarithms."""
    first, *others = answers[0].probabilities
    if len(others) == 1:
        share = _pooled_share([one.probabilities[first] for one in answers])
        return Category({first: share, others[0]: 1 - share}, answers[0].attribute)
    shares = np.array([list(one.probabilities.values()) for one in answers])
    means = np.exp(np.log(np.clip(shares, _CLIP, 1)).mean(axis=0))
    pooled = (means / means.sum()).tolist()
    return Category(dict(zip((first, *others), pooled, strict=True)), answers[0].attribute)


def pool_spans(series: Sequence[Sequence[Category]]) -> Category:
    """Return which parts of the body the images of each of ``series`` cover together.

    A part is covered where :data:`LEAST_SHARE` of the images of a series show it most probably.
    The value is the one term of all parts, and its certainty the mean probability that an image
    shows one of them. Where no term has them all, the least probable is left out.
    """
    images = [image for one in series for image in one]
    means: dict[str, float] = {}
    for image in images:
        for part, probability in _single(image).items():
            means[part] = means.get(part, 0.0) + probability / len(images)
    most = max(means, key=means.__getitem__)
    together = along_the_body({most}.union(*map(_covered, series)))
    while not (term := combined(together)):
        together.remove(min(together, key=means.__getitem__))
    shares: dict[str, float] = {}
    for part, mean in means.items():
        name = term if part in together else part
        shares[name] = shares.get(name, 0.0) + mean
    return Category(shares, images[0].attribute, tuple(together))


def _covered(images: Sequence[Category]) -> set[str]:
    """Return the parts that the images of one series cover."""
    votes: dict[str, float] = {}
    for image in images:
        for part in image.covered:
            votes[part] = votes.get(part, 0.0) + 1 / (len(image.covered) * len(images))
    least = min(LEAST_SHARE, max(votes.values()))
    return {part for part, share in votes.items() if share >= least}


def _single(answer: Category) -> dict[str, float]:
    """Return the probability of each single part; what several have together is theirs equally."""
    shares = dict(answer.probabilities)
    if len(answer.covered) > 1:
        together = shares.pop(answer.value) / len(answer.covered)
        for part in answer.covered:
            shares[part] = shares.get(part, 0.0) + together
    return shares


def _pooled_share(shares: Sequence[float]) -> float:
    p = np.clip(shares, _CLIP, 1 - _CLIP)
    logit = np.mean(np.log(p / (1 - p)))
    return float(1 / (1 + np.exp(-logit)))
