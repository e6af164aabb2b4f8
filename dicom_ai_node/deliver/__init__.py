"""Reports on their way out: one queue per destination, C-STORE as SCU (PS3.4 Annex B)."""

from dicom_ai_node.deliver.echo import EchoResult, echo
from dicom_ai_node.deliver.worker import run

__all__ = ["EchoResult", "echo", "run"]
