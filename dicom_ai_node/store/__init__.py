"""Everything that is remembered. The only package with SQL; each function is one transaction."""

from dicom_ai_node.store.database import Database

__all__ = ["Database"]
