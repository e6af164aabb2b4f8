"""A service that an archive need not have, told from one study that is refused."""

import structlog

_STUDIES = 3
"""So many different studies refused, and none ever answered, are a service that is not there."""

log = structlog.get_logger()


class Offer:
    """What is known of one service of a source, from its answers so far."""

    def __init__(self, source: str, what: str) -> None:
        self._source = source
        self._what = what
        self._answered = False
        self._refused: set[str] = set()
        self._missing = False

    def answered(self) -> None:
        """Note that the source has it: what it refuses from now on it refuses of that study."""
        self._answered = True

    def is_missing(self, study: str, *, certain: bool) -> bool:
        """Whether a refusal of ``study`` says that the source has no such service.

        ``certain``: it says so by itself, unless a study was answered before. Otherwise it may be
        this study alone that cannot be had, until others are refused as well.
        """
        if self._answered:
            return False
        if not self._missing:
            self._refused.add(study)
            self._missing = certain or len(self._refused) >= _STUDIES
            if self._missing:
                log.warning("audit_source_lacks", source=self._source, lacks=self._what)
        return self._missing
