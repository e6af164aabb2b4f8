"""pynetdicom's message layer for peers that bend PS3.7."""

from typing import Any

from pynetdicom import _config
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from dicom_ai_node.peer.commands import NO_UID, Command, Field, Tag, cleaned, encode
from dicom_ai_node.peer.pdus import UnreadablePdu

_COMMAND, _LAST = 1, 2  # bits of the message control header, PS3.8 E.2
_LARGEST_COMMAND = 1024 * 1024

# A UID of a peer's is a name that is compared and handed on, whatever its form (PS3.5 9.1): one
# of 68 characters is no reason to lose the association, as pynetdicom does.
_config.VALIDATORS["UI"] = lambda value: (True, "")


class Messages(DIMSEServiceProvider):  # type: ignore[misc]
    """Cleans each command set before pynetdicom reads it."""

    def __init__(self, association: Any) -> None:
        super().__init__(association)
        self._command = bytearray()

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one P-DATA; errors end the association."""
        for context_id, value in primitive.presentation_data_value_list:
            if not value:
                raise UnreadablePdu("a presentation data value without a control header")
            if not value[0] & _COMMAND:
                self._hand_on(context_id, value)
                continue
            self._command += value[1:]
            if len(self._command) > _LARGEST_COMMAND:
                raise UnreadablePdu("too long a command set")
            if value[0] & _LAST:
                command, self._command = bytes(self._command), bytearray()
                clean = self._cleaned(Command(command), context_id)
                self._hand_on(context_id, bytes([_COMMAND | _LAST]) + clean)

    def _cleaned(self, command: Command, context_id: int) -> bytes:
        elements = cleaned(command)
        if command.field == Field.C_STORE:
            # Without one of them pynetdicom would leave the peer without an answer.
            context = self.assoc._accepted_cx.get(context_id)
            class_uid = str(context.abstract_syntax) if context else NO_UID
            elements.setdefault(Tag.AFFECTED_SOP_CLASS_UID, class_uid.encode())
            elements.setdefault(Tag.AFFECTED_SOP_INSTANCE_UID, NO_UID.encode())
        return encode(elements)

    def _hand_on(self, context_id: int, value: bytes) -> None:
        if self.message is None and not value[0] & _COMMAND:
            raise UnreadablePdu("a data set without a command")
        part = P_DATA()
        part.presentation_data_value_list.append((context_id, value))
        super().receive_primitive(part)
