"""What tells two DICOM files apart, element by element: for a person who asks before it is sent.

Values are patient data; what comes of this is for a screen, never for a log.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag

from dicom_ai_node.dicom.encoding import EXPLICIT, LONG_VRS, ElementSpan, tag_name
from dicom_ai_node.report.copies.source import elements_of, opened

_SHOWN = 64
"""Characters of a value."""
_BINARY = frozenset(
    ("AT", "FL", "FD", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "UL", "UN", "US", "UV")
)


@dataclass(frozen=True, slots=True)
class Change:
    """One element that is not the same in both files."""

    path: str
    """Tags from the data set down, such as ``(0400,0561)[1].(0400,0563)``; items from 1 on."""
    name: str
    """Keyword, '' where the tag has none."""
    before: str | None
    """The value, shortened; a digest where it is binary; None where the element is absent."""
    after: str | None

    def __str__(self) -> str:
        head = f"{self.path} {self.name}".rstrip()
        if self.before is None:
            return f"+ {head} = {self.after}"
        if self.after is None:
            return f"- {head} = {self.before}"
        return f"~ {head} = {self.before} -> {self.after}"


@dataclass(frozen=True, slots=True)
class _Leaf:
    tag: int
    vr: str
    value: bytes


def difference(before: bytes, after: bytes) -> list[Change]:
    """Return every element that only one of two files has, or both with other bytes.

    Compares VR and value of all elements but sequences, whose items are compared one by one; how
    the length of a sequence is written does not count. Private sequences of defined length that
    have no VR are compared as bytes.

    Raises UnreadableInstance: one is not a DICOM file, or its data set cannot be followed to its
    end.
    """
    old, new = dict(_file(before)), dict(_file(after))
    return [
        Change(
            path,
            keyword_for_tag((old.get(path) or new[path]).tag),
            _shown(old.get(path)),
            _shown(new.get(path)),
        )
        for path in sorted(old.keys() | new.keys(), key=_order)
        if old.get(path) != new.get(path)
    ]


def _file(content: bytes) -> Iterator[tuple[str, _Leaf]]:
    file = opened(content)
    yield from _leaves(file.meta, elements_of(file.meta, EXPLICIT), "")
    yield from _leaves(file.data, file.parts, "")


def _leaves(data: bytes, parts: Sequence[ElementSpan], above: str) -> Iterator[tuple[str, _Leaf]]:
    seen: dict[int, int] = {}
    for part in parts:
        seen[part.tag] = times = seen.get(part.tag, 0) + 1
        path = above + tag_name(part.tag) + (f"#{times}" if times > 1 else "")
        vr = part.vr or _known_vr(part.tag)
        if part.items is None:
            yield path, _Leaf(part.tag, vr, data[part.value : part.value_end])
            continue
        yield path, _Leaf(part.tag, vr, b"")
        for number, item in enumerate(part.items, 1):
            yield f"{path}[{number}]", _Leaf(part.tag, "", b"")
            yield from _leaves(data, item.parts, f"{path}[{number}].")


def _known_vr(tag: int) -> str:
    """Return the VR that an element without one has."""
    if tag & 0xFFFF == 0:
        return "UL"
    return dictionary_VR(tag)[:2] if dictionary_has_tag(tag) else "UN"


def _shown(leaf: _Leaf | None) -> str | None:
    if leaf is None:
        return None
    size = len(leaf.value)
    if leaf.vr in ("SQ", ""):
        return "sequence" if leaf.vr else "item"
    if leaf.vr in _BINARY or (leaf.vr in LONG_VRS and size > _SHOWN):
        if size <= 8:
            return leaf.value.hex(" ")
        return f"{size} bytes, blake3 {blake3(leaf.value).hexdigest()[:16]}"
    text = ascii(leaf.value.rstrip(b"\0 ").decode("latin-1"))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}... ({size} bytes)"


def _order(path: str) -> list[tuple[str, int]]:
    """Return the key of a path: by tag, then by the number of the item."""
    steps = (step.partition("[") for step in path.split("."))
    return [(tag, int(number.rstrip("]") or 0)) for tag, _, number in steps]
