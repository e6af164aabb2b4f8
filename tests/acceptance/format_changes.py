"""The changes of public formats that are meant, each with its reason.

A change without a pattern excuses the whole format; one with a pattern rewrites the older text,
and everything else of the format is still compared.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatch


@dataclass(frozen=True)
class Change:
    formats: str
    """Names of formats, as a pattern of the shell."""
    reason: str
    pattern: str = ""
    """What the older text says, as a regular expression; empty: anything."""
    replacement: str = ""

    @property
    def whole(self) -> bool:
        return not self.pattern

    def concerns(self, name: str) -> bool:
        return fnmatch(name, self.formats)

    def apply(self, old: str) -> str:
        return re.sub(self.pattern, self.replacement, old, flags=re.M) if self.pattern else old


INTENDED: tuple[Change, ...] = ()
