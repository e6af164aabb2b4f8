"""Any folder of pictures (PNG, JPEG, WEBP, TIFF) of which nothing is known but where they lie.

Meant for what is no chest radiograph: ``others`` of a run on an archive. The data set of an image
is the name of its folder, so that a report tells knees from hands.
"""

from collections.abc import Iterator
from pathlib import Path

from training.data.index import PICTURES, Row
from training.readers.layout import Tally, files_below

NO_PICTURE = "image: not a picture"


def read(root: Path, tally: Tally) -> Iterator[Row]:
    """Rows of the pictures below ``root``."""
    for path in files_below(root):
        if path.suffix.lower() in PICTURES:
            yield Row(image=path.as_posix(), dataset=(root / path).resolve().parent.name)
        else:
            tally[NO_PICTURE] += 1
