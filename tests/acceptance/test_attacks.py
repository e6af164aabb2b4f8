"""The attacks in short: limits of seconds instead of minutes, the same receivers and peers."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.acceptance.attacks import PLANS, run_large, run_many
from tests.builders.receiving import dcmtk
from tests.conftest import lacks

pytestmark = pytest.mark.peers

SHORT = "dimse_timeout = 4.0\nacse_timeout = 4.0\nunproductive_seconds = 6.0"


@pytest.fixture(autouse=True)
def _dcmtk() -> None:
    for name in ("echoscu", "storescu"):
        if dcmtk(name) is None:
            lacks(f"DCMTK {name}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["slow-store", "one-byte-pdus", "dribbled-request"])
def test_slow_senders_keep_nobody_out(name: str, tmp_path: Path) -> None:
    plan = replace(PLANS[name], pause=1.0)
    outcome = run_many(plan, tmp_path, seconds=20.0, receive=SHORT)
    assert (outcome.echo_failed, outcome.study_failed) == (0, 0), outcome
    assert outcome.echo
    assert outcome.study
    assert len(outcome.ended) >= outcome.accepted, outcome


@pytest.mark.timeout(600)
def test_an_object_that_does_not_fit_leaves_the_mark_free(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        lacks("the right to mount a file system")
    outcome = run_large(tmp_path)
    assert outcome.status == "0xA700"
    assert outcome.least_free_mb is not None
    assert outcome.least_free_mb >= 40 - 2  # what two receivers have under way at once
    assert (outcome.echo_failed, outcome.study_failed) == (0, 0), outcome
