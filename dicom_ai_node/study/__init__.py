"""The life cycles of studies, deliveries, proposals and audits: tables, no I/O."""

from dicom_ai_node.study.audits import (
    AUDIT_TRANSITIONS,
    AuditedState,
    AuditEvent,
    AuditState,
    audit_step,
    seconds_until_open,
)
from dicom_ai_node.study.deliveries import (
    DELIVERY_TRANSITIONS,
    OPEN_DELIVERIES,
    DeliveryEvent,
    DeliveryState,
    delivery_steps,
)
from dicom_ai_node.study.lifecycle import (
    OPEN_STATES,
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
    "DELIVERY_TRANSITIONS",
    "OPEN_DELIVERIES",
    "OPEN_STATES",
    "TRANSITIONS",
    "AuditEvent",
    "AuditState",
    "AuditedState",
    "DeliveryEvent",
    "DeliveryState",
    "Effect",
    "Event",
    "State",
    "Step",
    "audit_step",
    "closing_time",
    "delivery_steps",
    "seconds_until_open",
    "step",
]
