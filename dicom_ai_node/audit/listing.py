"""Lists what an audit is about: part by part, each stored before the next is asked for."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import TypeVar

import structlog

from dicom_ai_node.archive.rules import for_listing
from dicom_ai_node.audit.campaign import AuditSpec, Depth, DryRun, Ended, Ending
from dicom_ai_node.audit.session import AuditSession, describe
from dicom_ai_node.audit.sources import Slice, Source
from dicom_ai_node.audit.sources.selection import DistinctStudies
from dicom_ai_node.audit.study import listed_to_row, missing_part_to_row
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.errors import AuditError, ConfigError, PeerUnavailable, StorageError
from dicom_ai_node.rules import check
from dicom_ai_node.store.audit_studies import NewListed, save_slice

_AT_ONCE = 1000
"""Studies that are stored in one transaction: meanwhile SQLite lets nobody else write."""

_T = TypeVar("_T")

log = structlog.get_logger()


class Lister:
    """The listing of one audit."""

    def __init__(self, session: AuditSession) -> None:
        self.session = session
        self._task = session.task
        self._parts: Sequence[Slice] = ()
        """What the source answers apart; asked for once."""
        self._counted: set[int] = set()
        """Hashes of the keys of what is not audited, so that no later part counts it again."""

    def run(self) -> None:
        """List every part that is not yet stored.

        A part that cannot be listed after all attempts is a finding; only when it is the first,
        so that nothing is known of the source, is the audit at its end (AuditError).
        """
        progress, failures = self.session.progress, 0
        while not progress.listing_done:
            source = self.session.source(paced=False)
            try:
                self._list(source)
                failures = 0
            except (Ended, StorageError, ConfigError):
                raise
            except Exception as error:
                part = f"part {progress.slices_done}"
                if isinstance(error, PeerUnavailable) and not self.session.is_to_blame(
                    part, source, error
                ):
                    continue  # the source is away as a whole
                failures += 1
                if failures < self._task.settings.max_attempts:
                    self._again_later(failures, describe(error))
                elif not self._parts or progress.slices_done == 0:
                    text = f"{self._task.spec.source}: the listing failed: {describe(error)}"
                    raise AuditError(text) from error
                else:
                    self._give_up(describe(error))
                    failures = 0

    def _list(self, source: Source) -> None:
        """List and store the next part."""
        progress, spec = self.session.progress, self._task.spec
        if not self._parts:
            self._parts = self._ask(source, lambda: source.slices(spec))
            self.session.pacing.answered()
            progress.slices = len(self._parts)
        number = progress.slices_done
        if number >= len(self._parts):
            self._save([], done=number)
            return
        part = DistinctStudies(spec.limit)
        answers = part.of(source.list(spec, self._parts[number]))
        while not progress.listing_done:
            some = self._ask(source, lambda: list(islice(answers, _AT_ONCE)))
            self.session.pacing.answered()
            rows = [listed_to_row(study) for study in some]
            if len(some) < _AT_ONCE:
                self._save(rows, done=number + 1, omitted=self._new(part))
                return
            self._save(rows, done=None)

    def _give_up(self, fault: str) -> None:
        number = self.session.progress.slices_done
        log.error("audit_slice_failed", audit=self._task.audit_id, fault=fault)
        row = missing_part_to_row(self._parts[number], f"not listed: {fault}")
        self._save([row], done=number + 1)

    def _again_later(self, failures: int, fault: str) -> None:
        log.warning(
            "audit_listing_failed", audit=self._task.audit_id, attempt=failures, fault=fault
        )
        reason = f"the listing failed, attempt {failures}: {fault}"
        self.session.pacing.back_off(self._task.now(), failures, reason)

    def _new(self, part: DistinctStudies) -> Counter[str]:
        """Count what a whole part left out and no earlier one did."""
        new = {key: why for key, why in part.omitted().items() if hash(key) not in self._counted}
        self._counted.update(map(hash, new))
        return Counter(why.value for why in new.values())

    def _save(
        self,
        rows: Sequence[NewListed],
        *,
        done: int | None,
        omitted: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        task, progress = self._task, self.session.progress
        last = done is not None and done >= len(self._parts)
        saved = save_slice(
            self.session.db,
            task.audit_id,
            rows,
            owner=task.owner,
            now=task.now(),
            slices_done=done,
            listing_done=last,
            limit=task.spec.limit,
            not_audited=omitted,
        )
        if saved is None:
            raise Ended(Ending.LOST)
        faults = sum(bool(row.fault) for row in rows)
        progress.listed += saved
        progress.settled += faults
        progress.faults += faults
        full = task.spec.limit is not None and progress.listed >= task.spec.limit
        progress.listing_done = last or full
        if done is not None:
            progress.slices_done = done
        self.session.show_progress()

    def _ask(self, source: Source, call: Callable[[], _T]) -> _T:
        # A folder answers when all of it has been read, which may take hours.
        seconds = None if source.holds_files else self._task.settings.listing_timeout_seconds
        return self.session.ask(seconds, call)


def preview(
    source: Source, spec: AuditSpec, rules: RulesSettings, *, on_progress: Callable[[DryRun], None]
) -> DryRun:
    """List and count what the audit would be about; nothing is fetched, stored or tried again."""
    parts = source.slices(spec)
    found = DryRun(slices=len(parts))
    everything = DistinctStudies(spec.limit)
    rules = rules if source.holds_files else for_listing(rules)
    for part in parts:
        for listed in everything.of(source.list(spec, part)):
            flagged = check([listed.header], settings=rules, today=spec.today).flagged
            wanted = spec.depth is Depth.ALL or (flagged and spec.depth is Depth.FLAGGED)
            found.studies += 1
            found.instances += listed.instances or 0
            found.flagged += flagged
            found.images += wanted
        found.slices_done += 1
        on_progress(found)
        if spec.limit is not None and found.studies >= spec.limit:
            break
    found.not_audited = dict(Counter(why.value for why in everything.omitted().values()))
    return found
