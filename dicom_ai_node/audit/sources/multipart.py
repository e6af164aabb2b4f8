"""The parts of a multipart message (RFC 2046 5.1) that hold DICOM files.

Services send what is legal and rare: text before the first part and after the last, a quoted
boundary, blanks behind it, parts without headers. And what is not legal: lines that end in LF
alone, no closing boundary, a file without any message around it.
"""

import re
from email.message import Message

from dicom_ai_node.dicom.part10 import is_part10


def files_in(content_type: str, body: bytes) -> list[bytes]:
    """Return every DICOM file (PS3.10) in the body of an answer; none where there is none."""
    if is_part10(body):
        return [body]
    boundary = _boundary(content_type, body)
    parts = _parts(boundary, body) if boundary else []
    return [part for part in parts if is_part10(part)]


def _boundary(content_type: str, body: bytes) -> bytes:
    header = Message()
    header["Content-Type"] = content_type
    named = header.get_boundary()
    if named:
        return named.encode("latin_1", "replace")
    # A service that says multipart without a boundary begins with it.
    found = re.match(rb"\s*--([^\r\n]{1,70})\r?\n", body)
    return found[1].rstrip() if found else b""


def _parts(boundary: bytes, body: bytes) -> list[bytes]:
    mark = re.escape(b"--" + boundary)
    first = re.search(rb"(?:\A|\n)" + mark + rb"[ \t]*(\r?\n)", body)
    if first is None:
        return []
    # The line end before a boundary belongs to the boundary: which it is says the first one.
    end = first[1]
    between = re.compile(end + mark + rb"(?=--|[ \t]*\r?\n|[ \t]*\Z)")
    found = []
    for piece in between.split(body[first.end() - len(end) :]):
        if piece.startswith(b"--"):  # the closing boundary: what follows is no part
            break
        found.append(_content(piece))
    return found


def _content(piece: bytes) -> bytes:
    """Return a part without its headers, which an empty line ends; without any where none are."""
    bare = re.sub(rb"\A[ \t]*\r?\n", b"", piece, count=1)
    if is_part10(bare):
        return bare
    found = re.search(rb"\r?\n\r?\n", piece)
    return piece[found.end() :] if found else b""
