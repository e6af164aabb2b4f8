"""Association -> durable file and row -> 0x0000. Never loads torch or highdicom.

An instance takes this way: :mod:`~dicom_ai_node.receive.admission` lets the peer in,
:mod:`~dicom_ai_node.receive.stream` writes the data set to the file of
:mod:`~dicom_ai_node.receive.incoming` while it arrives, and
:mod:`~dicom_ai_node.receive.filing` makes it durable, records it and chooses the answer.
"""

from dicom_ai_node.receive.role import run

__all__ = ["run"]
