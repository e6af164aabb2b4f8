"""The life cycles of a study and of an audit: tables, no I/O."""

from dicom_ai_node.study.audits import (
    AUDIT_TRANSITIONS,
    AuditedState,
    AuditEvent,
    AuditState,
    audit_step,
)
from dicom_ai_node.study.lifecycle import TRANSITIONS, Effect, Event, State, Step, step
from dicom_ai_node.study.timing import closing_time, seconds_until_open

__all__ = [
    "AUDIT_TRANSITIONS",
    "TRANSITIONS",
    "AuditEvent",
    "AuditState",
    "AuditedState",
    "Effect",
    "Event",
    "State",
    "Step",
    "audit_step",
    "closing_time",
    "seconds_until_open",
    "step",
]
