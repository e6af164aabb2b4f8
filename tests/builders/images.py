"""Images of kinds that the demo does not make."""

from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from dicom_ai_node.demo.images import radiograph, uid


def section(number: int, *, study: str, **values: Any) -> Dataset:
    """Return one section of a CT series of ``study``, with structure that no network knows."""
    rows, columns = np.mgrid[:160, :160]
    pixels = (1000 + 900 * np.sin(rows / (7 + number)) * np.cos(columns / 11)).astype(np.uint16)
    defaults: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "Modality": "CT",
        "SeriesInstanceUID": uid("demo", study, "sections"),
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "BodyPartExamined": "ABDOMEN",
        "ViewPosition": None,
    }
    return radiograph(pixels, study=study, number=number, **defaults | values)
