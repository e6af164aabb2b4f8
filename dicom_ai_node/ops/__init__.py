"""Logs, processes and periodic work."""
