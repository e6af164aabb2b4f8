"""Association -> durable file and row -> 0x0000. Never loads torch or highdicom.

A C-STORE takes this way: :mod:`~dicom_ai_node.receive.admission` lets the peer in;
:mod:`~dicom_ai_node.receive.stream` reads the request, asks its
:class:`~dicom_ai_node.receive.session.Session` for a file, writes the data set to it
(:mod:`~dicom_ai_node.receive.incoming`) while it arrives, and sends the answer that
:class:`~dicom_ai_node.receive.filing.Filing` gives when the file is durable and its row committed.
"""
