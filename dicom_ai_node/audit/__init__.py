"""Audit of a whole archive: list, read, estimate where it is needed, and hold all against all.

Each study is collected once and its facts are kept (``collect``); every finding is computed from
the kept facts (``conclude``), so that order, pauses and crashes cannot change a report.
"""
