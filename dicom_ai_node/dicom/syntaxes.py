"""Every transfer syntax that this program knows, one row each (PS3.5 annex A, PS3.6 table A-1)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydicom import uid as uids

from dicom_ai_node.dicom.encoding import BIG_ENDIAN, EXPLICIT, IMPLICIT, Encoding


class Coding(StrEnum):
    """How pixels are coded, and who decodes them (:mod:`dicom_ai_node.pixels.codecs`)."""

    NATIVE = "native"
    """Cells as they stand in memory; numpy."""
    RLE = "RLE"
    """imagecodecs' own decoder."""
    JPEG = "JPEG"
    """libjpeg-turbo: 8 and 12 bits lossy, 2 to 16 bits lossless."""
    JPEG_LS = "JPEG-LS"
    """CharLS."""
    JPEG_2000 = "JPEG 2000"
    """OpenJPEG: Part 1, and Part 15, which is HTJ2K."""
    REFERENCED = "referenced"
    """By an address outside of the object; nobody fetches them."""


class Lossy(StrEnum):
    """Whether decoded values may differ from those that were encoded."""

    NO = "no"
    YES = "yes"
    MAYBE = "maybe"
    """The encoder's choice."""


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """What a transfer syntax says of a data set."""

    uid: uids.UID
    name: str
    coding: Coding
    lossy: Lossy = Lossy.NO
    encoding: Encoding = EXPLICIT
    deflated: bool = False
    """Whether the whole data set is (PS3.5 A.5)."""
    accepted: bool = True
    """Whether the receiver and the audit accept it."""


TABLE: Final = (
    TransferSyntax(uids.ExplicitVRLittleEndian, "Explicit VR Little Endian", Coding.NATIVE),
    TransferSyntax(
        uids.ImplicitVRLittleEndian, "Implicit VR Little Endian", Coding.NATIVE, encoding=IMPLICIT
    ),
    TransferSyntax(uids.JPEGLSLossless, "JPEG-LS Lossless", Coding.JPEG_LS),
    TransferSyntax(uids.JPEGLosslessSV1, "JPEG Lossless SV1", Coding.JPEG),
    TransferSyntax(uids.JPEGLossless, "JPEG Lossless Process 14", Coding.JPEG),
    TransferSyntax(uids.HTJ2KLossless, "HTJ2K Lossless", Coding.JPEG_2000),
    TransferSyntax(uids.HTJ2KLosslessRPCL, "HTJ2K Lossless RPCL", Coding.JPEG_2000),
    TransferSyntax(uids.RLELossless, "RLE Lossless", Coding.RLE),
    TransferSyntax(uids.JPEG2000Lossless, "JPEG 2000 Lossless", Coding.JPEG_2000),
    TransferSyntax(
        uids.ExplicitVRBigEndian, "Explicit VR Big Endian", Coding.NATIVE, encoding=BIG_ENDIAN
    ),
    TransferSyntax(
        uids.DeflatedExplicitVRLittleEndian,
        "Deflated Explicit VR Little Endian",
        Coding.NATIVE,
        deflated=True,
    ),
    TransferSyntax(uids.HTJ2K, "HTJ2K", Coding.JPEG_2000, Lossy.MAYBE),
    TransferSyntax(uids.JPEG2000, "JPEG 2000", Coding.JPEG_2000, Lossy.MAYBE),
    TransferSyntax(uids.JPEGLSNearLossless, "JPEG-LS Near-lossless", Coding.JPEG_LS, Lossy.MAYBE),
    TransferSyntax(uids.JPEGExtended12Bit, "JPEG Extended", Coding.JPEG, Lossy.YES),
    TransferSyntax(uids.JPEGBaseline8Bit, "JPEG Baseline", Coding.JPEG, Lossy.YES),
    TransferSyntax(
        uids.UID("1.2.840.10008.1.2.4.95"),
        "JPIP Referenced Deflate",
        Coding.REFERENCED,
        Lossy.MAYBE,
        deflated=True,
        accepted=False,
    ),
    TransferSyntax(
        uids.UID("1.2.840.10008.1.2.4.205"),
        "JPIP HTJ2K Referenced Deflate",
        Coding.REFERENCED,
        Lossy.MAYBE,
        deflated=True,
        accepted=False,
    ),
)
"""In order of preference where one presentation context proposes several (PS3.8 9.3.3.2 leaves the
choice to the acceptor): native first, then lossless with the cheapest decoder first, and what may
be lossy last, so that no sender degrades an image for us.
"""

ACCEPTED_SYNTAXES: Final = tuple(row.uid for row in TABLE if row.accepted)
"""What a presentation context may propose for images, the preferred one first."""
NATIVE_SYNTAXES: Final = tuple(row.uid for row in TABLE if row.coding is Coding.NATIVE)
OFFERED_SYNTAXES: Final = (uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian)
"""What this node proposes for queries and for objects that it encodes, the preferred one first."""
_ENCODINGS = {str(row.uid): row.encoding for row in TABLE}
_DEFLATED = frozenset(row.uid for row in TABLE if row.deflated)
_LOSSY = frozenset(row.uid for row in TABLE if row.lossy is Lossy.YES)


def encoding_of(uid: str) -> Encoding:
    """Return how a data set in that transfer syntax should be encoded (PS3.5 A)."""
    return _ENCODINGS.get(uid, EXPLICIT)


def native_syntax_of(encoding: Encoding) -> str:
    """Return the transfer syntax of native pixels in a data set of that encoding."""
    return next(uid for uid in NATIVE_SYNTAXES if _ENCODINGS[uid] == encoding)


def is_deflated(uid: str) -> bool:
    """Whether a data set in that transfer syntax is deflated as a whole (PS3.5 A.5, A.6, A.11)."""
    return uid in _DEFLATED


def is_lossy(uid: str) -> bool:
    """Whether that transfer syntax is lossy by definition; False where only the encoder knows."""
    return uid in _LOSSY
