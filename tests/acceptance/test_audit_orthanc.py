"""The short form of audit_orthanc: every recipe of the answer key once, in a real Orthanc."""

from pathlib import Path

import pytest

from tests.acceptance.audit_orthanc import check, small


@pytest.mark.peers
@pytest.mark.timeout(1800)
def test_all_ways_find_what_was_planted_and_a_killed_audit_too(tmp_path: Path) -> None:
    assert check(small(), tmp_path, kills=2) == []
