"""Decodes text of a header without a warning and without an exception (PS3.3 C.12.1.1.2)."""

import re
from collections.abc import Mapping, Sequence

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding

_ESCAPE = re.compile(rb"(\x1b(?:\$[()]?.|.{0,2}))", re.DOTALL)
# Python's codecs of these take the escape sequences as part of the text.
_KEEP_ESCAPES = frozenset({"iso2022_jp", "iso2022_jp_2"})
# pydicom takes the default repertoire for Latin-1; it is ISO_IR 6, which is ASCII.
_CODECS: Mapping[str, str] = {"iso_ir_58": "gb2312", "iso8859": "ascii"}


def encodings_of(terms: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Python codecs of the terms of SpecificCharacterSet, and the terms that are unknown."""
    known = tuple(python_encoding[term] for term in terms if term in python_encoding)
    return known, tuple(term for term in terms if term not in python_encoding)


def decode(raw: bytes, encodings: Sequence[str]) -> tuple[str, bool]:
    """The text of ``raw``, and whether every byte of it could be decoded.

    What cannot be decoded comes back byte by byte as Latin-1, so that nothing is lost.
    """
    try:
        if b"\x1b" in raw:
            return _decode_switched(raw, encodings), True
        return raw.decode(_codec(encodings[0] if encodings else "ascii")), True
    except (UnicodeError, LookupError):
        return raw.decode("latin_1"), False


def _decode_switched(raw: bytes, encodings: Sequence[str]) -> str:
    """Text with ISO 2022 code extensions: an escape sequence switches what follows it."""
    first, *rest = _ESCAPE.split(raw)
    parts = [first.decode(_codec(encodings[0] if encodings else "ascii"))]
    for escape, text in zip(rest[::2], rest[1::2], strict=True):
        encoding = _codec(CODES_TO_ENCODINGS.get(escape, "unknown escape sequence"))
        kept = escape + text if encoding in _KEEP_ESCAPES else text
        parts.append(kept.decode(encoding))
    return "".join(parts)


def _codec(encoding: str) -> str:
    return _CODECS.get(encoding, encoding)
