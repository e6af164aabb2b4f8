"""Builders of what the tests put into the node."""
