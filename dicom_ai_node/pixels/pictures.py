"""Pictures that are not DICOM: PNG, JPEG, WebP and TIFF, for trials and the demo."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.part10 import PREFIX_END, is_part10
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.pixels.codestream import refuse_many_scans
from dicom_ai_node.pixels.contracts import CONTRACTS, SQUARE
from dicom_ai_node.pixels.lenient import quiet
from dicom_ai_node.pixels.normalise import normalise
from dicom_ai_node.pixels.refusals import RefusalCode, refuse, refuse_large
from dicom_ai_node.pixels.windows import windows

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def is_picture(path: Path) -> bool:
    """Whether the file at ``path`` is a PNG or a JPEG by its first bytes, whatever its name.

    The preamble of a DICOM file may begin like another format, too (PS3.10 7.1).
    """
    try:
        with path.open("rb") as file:
            head = file.read(PREFIX_END)
    except OSError:
        return False
    return head.startswith((_PNG, _JPEG)) and not is_part10(head)


def load_picture(
    path: Path, *, size: int, contract: str = SQUARE, limits: Limits = DEFAULT
) -> NDArray[np.float32]:
    """Return the picture at ``path`` as the networks of ``contract`` see it; float32, in [0, 1].

    Raises what :func:`grey_from_picture` does, and PixelsRefused with ``blank``, or ``other_kind``
    where an input is more than an image.
    """
    if CONTRACTS[contract].takes != "image":
        raise refuse(RefusalCode.OTHER_KIND, "a picture")
    grey = grey_from_picture(path, limits)
    tensor = normalise(grey, size) if contract == SQUARE else windows(grey, "", size)
    if not tensor.any():
        raise refuse(RefusalCode.BLANK)
    return tensor


def grey_from_picture(path: Path, limits: Limits = DEFAULT) -> NDArray[Any]:
    """Return the picture at ``path`` in grey, the way up that its EXIF orientation asks for.

    Colours become Rec. 601 luma, as in the networks' training; what is transparent is as dark as
    the air around a patient. Polarity is taken as it is: there is no header to say that bones are
    black. Shape (rows, columns), uint8, or uint16, int32 or float32 where the picture is deeper.

    Raises UnreadableInstance: the file cannot be read or is none of :data:`FORMATS`; PixelsRefused:
    ``too_large``, ``one_bit``, ``multi_frame`` or ``undecodable``.
    """
    try:
        with quiet(), Image.open(path, formats=FORMATS) as picture:
            return _grey(picture, path, limits)
    except (UnidentifiedImageError, OSError) as error:
        if isinstance(error, UnidentifiedImageError) or error.errno is not None:
            expected = f"{path.name}: expected a picture ({', '.join(FORMATS)})"
            raise UnreadableInstance(expected) from error
        raise refuse(RefusalCode.UNDECODABLE, str(error)[:160]) from error
    except Image.DecompressionBombError as error:
        raise refuse(RefusalCode.TOO_LARGE) from error
    except (ValueError, SyntaxError) as error:  # what Pillow's plug-ins raise on damage
        raise refuse(RefusalCode.UNDECODABLE, str(error)[:160]) from error


def _grey(picture: Image.Image, path: Path, limits: Limits) -> NDArray[Any]:
    samples = len(picture.getbands())
    refuse_large(
        picture.height,
        picture.width,
        samples=samples,
        bits=8 if samples > 1 or picture.mode in ("1", "L", "P") else 16,
        limits=limits,
        whose="header",
    )
    is_jpeg = picture.format in ("JPEG", "MPO")  # a phone's JPEG, with further pictures behind it
    if is_jpeg:
        refuse_many_scans(path.read_bytes())
    if picture.mode == "1":
        raise refuse(RefusalCode.ONE_BIT)
    if getattr(picture, "n_frames", 1) > 1 and not is_jpeg:
        raise refuse(RefusalCode.MULTI_FRAME)
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        return np.asarray(upright)
    grey = np.asarray(upright.convert("L"))
    if not upright.has_transparency_data:
        return grey
    opaque = np.asarray(upright.convert("RGBA").getchannel("A"), np.uint16)
    return np.asarray((grey * opaque + 127) // 255, np.uint8)
