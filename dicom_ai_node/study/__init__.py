"""The life cycle of a study: one table, no I/O."""

from dicom_ai_node.study.lifecycle import TRANSITIONS, Effect, Event, State, Step, step
from dicom_ai_node.study.timing import LatePolicy, StudySettings, closing_time

__all__ = [
    "TRANSITIONS",
    "Effect",
    "Event",
    "LatePolicy",
    "State",
    "Step",
    "StudySettings",
    "closing_time",
    "step",
]
