"""Pictures that are not DICOM: PNG, JPEG, WebP and TIFF, for trials and the demo."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.pixels.header import quiet
from dicom_ai_node.pixels.layout import MAX_PIXELS
from dicom_ai_node.pixels.refusals import RefusalCode, refuse

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")


def grey_from_picture(path: Path) -> NDArray[Any]:
    """Return the picture at ``path`` in grey, the way up that its EXIF orientation asks for.

    Colours become Rec. 601 luma, as in the networks' training; transparency is ignored. Polarity
    is taken as it is: there is no header to say that bones are black.

    Returns
    -------
    Array of shape (rows, columns), uint8, or uint16, int32 or float32 where the picture is deeper.

    Raises
    ------
    UnreadableInstance
        The file cannot be read or is none of :data:`FORMATS`.
    PixelsRefused
        ``too_large``, ``one_bit``, ``multi_frame`` or ``undecodable``.
    """
    try:
        with quiet(), Image.open(path, formats=FORMATS) as picture:
            return _grey(picture)
    except (UnidentifiedImageError, OSError) as error:
        if isinstance(error, UnidentifiedImageError) or error.errno is not None:
            expected = f"{path.name}: expected a picture ({', '.join(FORMATS)})"
            raise UnreadableInstance(expected) from error
        raise refuse(RefusalCode.UNDECODABLE, str(error)[:160]) from error
    except Image.DecompressionBombError as error:
        raise refuse(RefusalCode.TOO_LARGE) from error
    except (ValueError, SyntaxError) as error:  # what Pillow's plug-ins raise on damage
        raise refuse(RefusalCode.UNDECODABLE, str(error)[:160]) from error


def _grey(picture: Image.Image) -> NDArray[Any]:
    if picture.width * picture.height > MAX_PIXELS:
        raise refuse(RefusalCode.TOO_LARGE, f"{picture.height} x {picture.width}")
    if picture.mode == "1":
        raise refuse(RefusalCode.ONE_BIT)
    if getattr(picture, "n_frames", 1) > 1:
        raise refuse(RefusalCode.MULTI_FRAME)
    upright = ImageOps.exif_transpose(picture)
    deep = upright.mode in ("I", "F") or upright.mode.startswith("I;16")
    return np.asarray(upright if deep else upright.convert("L"))
