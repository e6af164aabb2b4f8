"""Association -> durable file and row -> 0x0000. Never loads torch, highdicom or pynetdicom.

A C-STORE takes this way: an :class:`~dicom_ai_node.receive.acceptor.Acceptor` lets the peer in
(:mod:`~dicom_ai_node.receive.callers`); its :mod:`~dicom_ai_node.receive.messages` read the
request from the :mod:`~dicom_ai_node.receive.wire`, write the data set to a file while it arrives
(:mod:`~dicom_ai_node.receive.incoming`), and send the answer that
:class:`~dicom_ai_node.receive.filing.Filing` gives when the file is durable and its row committed.
"""
