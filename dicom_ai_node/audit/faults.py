"""What an audit says of an error: text that may be kept, shown and logged."""

from dicom_ai_node.errors import NodeError, UnreadableInstance


def describe(error: Exception) -> str:
    """Return one line without patient data.

    What others' messages quote is not known, and a file that cannot be read is named by its path,
    in which a patient's name may stand.
    """
    own = isinstance(error, NodeError) and not isinstance(error, UnreadableInstance)
    own = own or type(error) is TimeoutError
    return str(error).partition("\n")[0] if own else type(error).__name__
