"""Whether the network's answer for one image may be used."""

from dataclasses import dataclass

from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.types import ImageRef, ImageResult, Outcome, Prediction, Reason

OUTSIDE_TRAINING = "outside_training_ages"
"""Code of the reason of a study whose recorded age the network was not trained on."""


@dataclass(frozen=True, slots=True)
class Gates:
    """Smallest probabilities at which an image passes, and the ages that the network knows."""

    chest: float
    frontal: float
    in_distribution: float
    ages: tuple[float, float]
    """Youngest and oldest age of the training data, years."""

    def overridden(self, policy: PolicySettings) -> "Gates":
        """Return these gates with the thresholds that ``policy`` sets."""

        def pick(wanted: float | None, own: float) -> float:
            return own if wanted is None else wanted

        return Gates(
            chest=pick(policy.min_chest, self.chest),
            frontal=pick(policy.min_frontal, self.frontal),
            in_distribution=pick(policy.min_in_distribution, self.in_distribution),
            ages=self.ages,
        )


def judge(image: ImageRef, prediction: Prediction, gates: Gates) -> ImageResult:
    """Accept the prediction of one image, or abstain with the first gate that it fails.

    The view and the body part come from the pixels: headers are wrong about them too often.
    """
    reason = _failed_gate(prediction, gates)
    outcome = Outcome.ABSTAINED if reason else Outcome.ESTIMATED
    return ImageResult(image=image, outcome=outcome, reason=reason, prediction=prediction)


def _failed_gate(prediction: Prediction, gates: Gates) -> Reason | None:
    if prediction.chest < gates.chest:
        return Reason(
            "not_a_chest",
            f"does not look like a chest radiograph (probability {prediction.chest:.2f})",
        )
    if prediction.frontal < gates.frontal:
        return Reason(
            "not_frontal",
            f"does not look like a frontal view (probability {prediction.frontal:.2f})",
        )
    if prediction.in_distribution < gates.in_distribution:
        return Reason(
            "out_of_distribution",
            "unlike the images that the network was calibrated on "
            f"(p = {prediction.in_distribution:.3f})",
        )
    return None
