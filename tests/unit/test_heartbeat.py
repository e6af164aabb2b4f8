"""The thread that renews what its process holds."""

import threading

import pytest
from structlog.testing import capture_logs

from dicom_ai_node.errors import StorageError
from dicom_ai_node.heartbeat import Heartbeat


class Beats:
    """Counts beats, some of which fail."""

    def __init__(self, failing: set[int], enough: int) -> None:
        self.count = 0
        self.enough = threading.Event()
        self._failing, self._wanted = failing, enough

    def __call__(self) -> None:
        self.count += 1
        if self.count >= self._wanted:
            self.enough.set()
        if self.count in self._failing:
            raise StorageError("database: is away")


def test_it_goes_on_after_failures_and_says_so_once_in_a_row() -> None:
    beats = Beats({1, 2, 3, 5}, enough=6)
    with capture_logs() as logged, Heartbeat("lease", 0.001, beats, failure="lease_not_renewed"):
        assert beats.enough.wait(30)
    assert [line["event"] for line in logged] == ["lease_not_renewed"] * 2
    after = beats.count
    assert not threading.Event().wait(0.01)
    assert beats.count == after


def test_the_first_beat_comes_after_the_pause_or_at_once() -> None:
    ended = threading.Event()
    later, at_once = Beats(set(), enough=1), Beats(set(), enough=1)
    with (
        Heartbeat("row", 60, later, failure="x"),
        Heartbeat("row", 60, at_once, failure="x", at_once=True, at_end=ended.set),
    ):
        assert at_once.enough.wait(30)
        assert not ended.is_set()
    assert (later.count, at_once.count) == (0, 1)
    assert ended.is_set()


def test_it_can_be_hastened() -> None:
    beats = Beats(set(), enough=1)
    with Heartbeat("row", 600, beats, failure="x") as heart:
        heart.hasten()
        assert beats.enough.wait(30)


def test_those_that_beat_together_wait_for_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_ai_node.heartbeat.time.time", lambda: 1199.99)
    beats = Beats(set(), enough=2)
    with Heartbeat("row", 600, beats, failure="x", at_once=True, together=True):
        assert beats.enough.wait(30), "the clock says that it is nearly time"
