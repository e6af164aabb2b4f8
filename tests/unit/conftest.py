"""Which unit tests take seconds: 'make check' leaves them to 'make test'."""

import pytest

SLOW = frozenset(
    {
        *("test_audit_archive.py", "test_inference_export.py", "test_demo_phantom.py"),
        *("test_inference_network.py", "test_recalibrate.py", "test_inference_saliency.py"),
        *("test_training_build_bundle.py",),
        *("test_training_montage.py", "test_training_parity.py", "test_training_runs.py"),
        *("test_training_start.py", "test_training_step.py", "test_training_report.py"),
        *("test_training_archive.py", "test_inference_engine.py", "test_imports.py"),
        *("test_audit_faults.py", "test_audit_report.py", "test_archive_mix_ups.py"),
        *("test_cli_exit_codes.py", "test_cli_proposals.py", "test_ops_clock.py"),
        *("test_report_capture.py", "test_report_saliency.py", "test_report_build.py"),
        *("test_report_tree.py", "test_report_check.py", "test_report_copies_bytes.py"),
        *("test_rules_properties.py", "test_pixels_equivalence.py", "test_audit_cli.py"),
    }
)
"""Files that train, export or explain networks, draw, start many processes or audit an archive."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in SLOW or "postgresql" in item.name:
            item.add_marker(pytest.mark.slow)
