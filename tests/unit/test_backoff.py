"""How long to wait after failures: the formula, and the pauses of each use."""

import pytest

from dicom_ai_node.analyse.worklist import _BACKOFF as WORKLIST
from dicom_ai_node.backoff import LONGEST_RETRY, Backoff
from dicom_ai_node.config import parse_config
from dicom_ai_node.ops.supervisor import patience_of
from dicom_ai_node.store.fills import BACKOFF as FILL

CONFIG = parse_config({"destinations": {"pacs": {"host": "h", "port": 104, "ae_title": "PACS"}}})
DESTINATION = CONFIG.destinations["pacs"]


def test_the_pause_doubles_up_to_the_longest() -> None:
    pauses = [Backoff(5, 60).seconds(failures) for failures in range(1, 7)]
    assert pauses == [5, 10, 20, 40, 60, 60]


def test_jitter_picks_a_point_in_the_upper_half() -> None:
    assert Backoff(5, 60).seconds(3, jitter=0.0) == 10
    assert Backoff(5, 60).seconds(3, jitter=0.5) == 15


def test_a_million_failures_overflow_nothing() -> None:
    assert Backoff(0.001, 3600).seconds(1_000_000) == 3600


def test_a_longest_pause_below_the_first_wins() -> None:
    assert Backoff(5, 1).seconds(1) == 1


@pytest.mark.parametrize(
    ("backoff", "jitter", "pauses"),
    [
        (
            Backoff(DESTINATION.retry_seconds, DESTINATION.retry_max_seconds),
            0.25,
            [3.125, 6.25, 12.5, 25, 50, 100, 200, 400, 800, 1600, 2250, 2250],
        ),
        (
            Backoff(CONFIG.audit.retry_seconds, CONFIG.audit.retry_max_seconds),
            0.25,
            [18.75, 37.5, 75, 150, 300, 375, 375],
        ),
        (patience_of(CONFIG.operate).restart, 1.0, [0.5, 1, 2, 4, 8, 16, 30, 30]),
        (
            Backoff(CONFIG.analyse.retry_seconds, LONGEST_RETRY),
            1.0,
            [5, 10, 20, 40, 80, 160, 320, 600, 600],
        ),
        (WORKLIST, 1.0, [60, 120, 240, 480, 900, 900]),
        (FILL, 1.0, [600, 1200, 2400, 3600, 3600]),
    ],
    ids=["destination", "audit", "restart", "analysis", "worklist", "fill"],
)
def test_the_pauses_of_each_use(backoff: Backoff, jitter: float, pauses: list[float]) -> None:
    """As long as when each of them had a formula of its own."""
    found = [backoff.seconds(failures, jitter=jitter) for failures in range(1, len(pauses) + 1)]
    assert found == pauses
