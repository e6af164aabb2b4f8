"""Asks a modality worklist about studies. Whatever goes wrong costs the answer and nothing else.

A worklist that does not answer is left alone for a while, and so is one that is slow: no study
waits for it a second time, and no queue does.
"""

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from dicom_ai_node.backoff import Backoff
from dicom_ai_node.config import Config
from dicom_ai_node.errors import DeliveryError, PeerRefused
from dicom_ai_node.peer.exchange import ask_worklist
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.rules.worklist_rules import (
    Key,
    Keys,
    Verdict,
    WorklistReply,
    chosen,
    matches,
    worth_asking,
)
from dicom_ai_node.store import Database
from dicom_ai_node.store.patients import save_worklist_answer, worklist_answer_of
from dicom_ai_node.types import HeaderCheck, WorklistAnswer

_BACKOFF = Backoff(first=60.0, longest=900.0)
_SLOW = 1.0
_REST = 10.0
"""Who takes more than ``_SLOW`` seconds is left alone for so many times as long."""

log = structlog.get_logger()


class Worklist:
    """The worklist of ``[worklist]``; several threads may ask, and take turns."""

    def __init__(self, config: Config, db: Database) -> None:
        self._table = config.worklist
        self._rules = config.rules
        self._calling = config.node.ae_title
        self._db = db
        self._turn = threading.Lock()
        self._not_before = 0.0
        """Monotonic."""
        self._failures = 0
        self._ignored: set[Key] = set()
        """Optional keys that it does not match on: it answers whatever it has (PS3.4 K.2.2.1)."""

    def answer(
        self, uid: str, headers: Sequence[TextHeader], checked: HeaderCheck
    ) -> WorklistAnswer | None:
        """Return what the worklist says of a study, None when it says nothing or is not asked.

        What was said once is said again, however often the study is analysed.

        Raises StorageError: what was said cannot be looked up or written.
        """
        table = self._table
        if table is None or not worth_asking(
            headers,
            checked,
            settings=self._rules,
            today=datetime.now(UTC).date(),
            compare=table.compare,
        ):
            return None
        keys = Keys.of(headers)
        digest = keys.digest
        known = worklist_answer_of(self._db, uid, digest=digest)
        if known is None:
            known = self._ask(keys)
            save_worklist_answer(self._db, uid, known, digest=digest, now=time.time())
            log.info("worklist_consulted", study=uid, verdict=known.verdict)
        return known.answer

    def _ask(self, keys: Keys) -> WorklistReply:
        with self._turn:
            start = time.monotonic()
            if start < self._not_before:
                return WorklistReply(Verdict.UNAVAILABLE)
            try:
                asked = self._by_each_key(keys, start)
            except DeliveryError as error:
                return self._failed(str(error))
            except Exception as error:  # noqa: BLE001 - a peer may send anything
                return self._failed(type(error).__name__)
            self._failures = 0
            taken = time.monotonic() - start
            if taken > _SLOW:
                self._not_before = start + taken * (1 + _REST)
            return asked

    def _by_each_key(self, keys: Keys, start: float) -> WorklistReply:
        assert self._table is not None
        refusal: PeerRefused | None = None
        for key in keys.askable():
            if key in self._ignored:
                continue
            try:
                found = ask_worklist(
                    self._table,
                    {key: keys.values[key]},
                    calling_ae_title=self._table.calling_ae_title or self._calling,
                    deadline=start + self._table.timeout,
                )
            except PeerRefused as error:  # it may take another key
                refusal = error
                continue
            answers = [TextHeader.from_dataset(one) for one in found]
            if key is not Key.PATIENT and not all(matches(key, keys, one) for one in answers):
                self._ignored.add(key)
                log.warning("worklist_ignores_key", key=key)
            asked = chosen(key, keys, answers)
            if asked.verdict is not Verdict.NOTHING:
                return asked
        if refusal is not None:
            raise refusal
        return WorklistReply(Verdict.NOTHING)

    def _failed(self, reason: str) -> WorklistReply:
        self._failures += 1
        pause = _BACKOFF.seconds(self._failures)
        self._not_before = time.monotonic() + pause
        log.warning("worklist_unavailable", reason=reason, pause=pause)
        return WorklistReply(Verdict.UNAVAILABLE)
