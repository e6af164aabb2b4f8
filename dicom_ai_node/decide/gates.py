"""Whether the network's answer for one image may be used."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.types import ImageRef, ImageResult, Outcome, Prediction, Reason

OUTSIDE_TRAINING = "outside_training_ages"
"""Code of the reason of a study whose recorded age the network was not trained on."""


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


def _failed_gate(prediction: Prediction, gates: Gates) -> Reason | None:
    for name, least in gates.thresholds.items():
        probability, reason = prediction.gates[name], gates.reasons[name]
        if probability < least:
            return Reason(reason.code, f"{reason.text} (probability {probability:.2f})")
    if prediction.in_distribution < gates.in_distribution:
        return Reason(
            "out_of_distribution",
            "unlike the images that the network was calibrated on "
            f"(p = {prediction.in_distribution:.3f})",
        )
    return None
