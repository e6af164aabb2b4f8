"""Associations that this node opens (PS3.7, PS3.8): shared by delivery and by audits."""

from dicom_ai_node.peer.association import Association, Peer, name_of, status_of

__all__ = ["Association", "Peer", "name_of", "status_of"]
