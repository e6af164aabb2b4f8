"""Reports on their way out: one queue per destination, C-STORE as SCU (PS3.4 Annex B)."""

LEASE_SECONDS = 30.0
"""A report that a killed deliverer had under way is sent again after this long."""
