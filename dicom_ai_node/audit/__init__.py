"""Audit of a whole archive: list, read, estimate where it is needed, and hold all against all.

Each study is collected once and its facts are stored (``collect``); every finding is computed from
them (``conclude``), so that order, pauses and crashes cannot change a report.
"""

from typing import Final

FALSE_DISCOVERY_RATE: Final = 0.1
"""Expected share of false ones among the image conflicts, unless another is asked for."""
