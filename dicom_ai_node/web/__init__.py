"""Health and metrics over HTTP. Nothing of a patient or study is in a path, a body or a metric."""

from dicom_ai_node.web.app import run

__all__ = ["run"]
