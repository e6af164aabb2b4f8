"""Which unit tests take seconds: 'make check' leaves them to 'make test'."""

import pytest

SLOW = frozenset(
    {
        *("test_audit_archive.py", "test_build_bundle.py", "test_export.py", "test_phantom.py"),
        *("test_inference_network.py", "test_recalibrate.py", "test_saliency.py"),
        *("test_training_montage.py", "test_training_parity.py", "test_training_runs.py"),
        *("test_training_start.py", "test_training_step.py"),
    }
)
"""Files that train, export or explain networks, or audit an archive of 2,000 studies."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)
