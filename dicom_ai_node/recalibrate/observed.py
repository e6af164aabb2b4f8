"""What the monitor has observed of a network, as cases that calibrate it: it reads no image."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from dicom_ai_node.answers import Measured
from dicom_ai_node.inference.bundle import Manifest
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.heads import CategoryHead, Head, QuantityHead
from dicom_ai_node.monitor.observation import Observation
from dicom_ai_node.recalibrate.cases import USED, cases_of
from dicom_ai_node.rules.attributes import ATTRIBUTES

_LABELS = frozenset(keyword for keyword, row in ATTRIBUTES.items() if row.a_label)
NOT_MEASURED = "not_measured"
"""Reason: no image passed every gate, or an earlier release kept nothing of it that is fitted."""


def same_network(manifest: Manifest) -> frozenset[str]:
    """Weights of bundles with this network: calibrating one on a site gives it another hash."""
    made = manifest.recalibration
    return frozenset({manifest.sha256, *([made.base_sha256] if made else [])})


def observed_cases(
    observations: Iterable[Observation], manifest: Manifest, studies: Counter[str]
) -> Cases:
    """Return a case for each study that is measured and states what the heads are held against.

    ``observations`` are in order of time, of bundles with the :func:`same_network`; the last one of
    a study counts. ``studies`` counts each once: as ``used``, or under what is missing.
    """
    last: dict[str, Observation] = {one.study_uid: one for one in observations}
    kept: list[tuple[str, Mapping[str, float], Measured]] = []
    for one in last.values():
        truth = _truth(one, manifest.heads)
        if isinstance(truth, str):
            studies[truth] += 1
        elif one.measured is None:
            studies[NOT_MEASURED] += 1
        else:
            studies[USED] += 1
            kept.append((one.person, truth, one.measured))
    return cases_of(kept, manifest.heads)


def _truth(one: Observation, heads: Sequence[Head]) -> dict[str, float] | str:
    """Return what is recorded for each head, or which attribute the header leaves in doubt."""
    truth: dict[str, float] = {}
    for head in heads:
        if not isinstance(head, QuantityHead | CategoryHead) or head.attribute not in _LABELS:
            continue
        value = one.recorded.get(head.attribute)
        if isinstance(head, CategoryHead) and value in head.values:
            truth[head.name] = float(head.values.index(str(value)))
        elif isinstance(head, QuantityHead) and isinstance(value, int | float):
            truth[head.name] = float(value)
        else:
            return f"{ATTRIBUTES[head.attribute].name}_not_trusted"
    return truth
