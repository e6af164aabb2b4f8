"""The life cycles of studies, deliveries, proposals and audits: tables, no I/O."""

from dicom_ai_node.study.audits import (
    AUDIT_TRANSITIONS,
    AuditedState,
    AuditEvent,
    AuditState,
    audit_step,
    seconds_until_open,
)
from dicom_ai_node.study.lifecycle import (
    TRANSITIONS,
    Effect,
    Event,
    State,
    Step,
    closing_time,
    step,
)

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
