"""Whether two values of PatientName may be names of one person (PN, PS3.5 6.2.1)."""

import re
import unicodedata
from collections.abc import Mapping

_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[a-z]+")
# As they are written where the letter is not to be had.
_DIGRAPHS: Mapping[int, str] = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae", "ß": "ss", "ł": "l"}
)

Words = frozenset[str]


def components(name: str) -> tuple[Words, Words]:
    """Words of the family name and of the given names, Latin letters only, in every spelling.

    Of a name in several scripts (alphabetic=ideographic=phonetic) the alphabetic one.
    """
    family, _, given = name.split("=")[0].partition("^")
    if not given and "," in family:
        family, _, given = family.partition(",")
    return _words(family), _words(given.partition("^^")[0])


def same_person(one: tuple[Words, Words], other: tuple[Words, Words]) -> tuple[bool, bool]:
    """Whether the family names, and whether the given names, may be those of one person.

    A part that either lacks, or has in another script only, does not speak against it. Names in
    the wrong order are told from others: then both parts fit crosswise.
    """
    straight = _alike(one[0], other[0]), _alike(one[1], other[1])
    crossed = _alike(one[0], other[1]), _alike(one[1], other[0])
    return (True, True) if all(crossed) else straight


def _words(text: str) -> Words:
    found: set[str] = set()
    for word in _WORD.findall(unicodedata.normalize("NFC", text).casefold()):
        bare = unicodedata.normalize("NFKD", word)
        plain = "".join(letter for letter in bare if not unicodedata.combining(letter))
        found |= {one for one in (plain, word.translate(_DIGRAPHS)) if _LATIN.fullmatch(one)}
    return frozenset(found)


def _alike(one: Words, other: Words) -> bool:
    """Whether a word of one is, but for one letter or but for what follows an initial, another."""
    return not one or not other or any(_close(a, b) for a in one for b in other)


def _close(a: str, b: str) -> bool:
    short, long = sorted((a, b), key=len)
    if len(short) <= 2 or long.startswith(short):
        return long.startswith(short)  # An initial, or a name that was cut.
    if len(short) < 4 or len(long) - len(short) > 1:
        return False
    start = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(short))
    rest_a, rest_b = a[start:], b[start:]
    swapped = rest_a[:2] == rest_b[:2][::-1] and rest_a[2:] == rest_b[2:]
    return rest_a[1:] == rest_b[1:] or rest_a[1:] == rest_b or rest_a == rest_b[1:] or swapped
