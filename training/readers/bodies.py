"""Write synthetic series of CT whose ages are known, in the layout that ``ct-age`` reads.

    python -m training bodies runs/bodies --count 120

Every fourth is a folder of DICOM files, the others are NIfTI; ``ages.csv`` names them. They prove
the route, from files to a packed bundle, and nothing about patients
(:mod:`training.data.bodies`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from training.data import bodies
from training.data.bodies import PLANTED, Planted, Series
from training.data.tables import write_table

DICOM_EVERY = 4
TABLE = "ages.csv"


PlantedName = Annotated[
    Literal["loss", "gain"], typer.Option(help="Density that goes with age: vertebrae, or calcium.")
]


def write(
    folder: Path, count: int, first: int = 0, planted: Planted = bodies.LOSS, **shape: int
) -> Path:
    """Write ``count`` series, of the seeds from ``first`` on, and their table; return its path.

    ``shape`` are ``pixels`` and ``sections`` of :func:`training.data.bodies.series`.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def rows() -> Iterator[tuple[object, ...]]:
        for seed in range(first, first + count):
            body = bodies.series(seed, planted=planted, **shape)
            name = f"body-{seed:04d}"
            if seed % DICOM_EVERY:
                name += ".nii.gz"
                write_nifti(folder / name, body)
            else:
                write_dicom(folder / name, body)
            # As a header has it: completed years.
            yield name, f"body-{seed:04d}", int(body.age), "", "synthetic", "CC0-1.0"

    table = folder / TABLE
    write_table(table, ("series", "patient", "age", "sex", "source", "licence"), rows())
    return table


def write_nifti(file: Path, body: Series) -> None:
    """Write a series as NIfTI: right, front and head are the positive directions of its affine."""
    import nibabel

    first, second = (np.array(plane.position) for plane in body.planes[:2])
    affine = np.eye(4)
    affine[:3, 0] = np.array(body.planes[0].orientation[:3]) * body.planes[0].spacing[1]
    affine[:3, 1] = np.array(body.planes[0].orientation[3:]) * body.planes[0].spacing[0]
    affine[:3, 2], affine[:3, 3] = second - first, first
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    nibabel.save(nibabel.Nifti1Image(body.images.transpose(2, 1, 0), affine), file)


def write_dicom(folder: Path, body: Series) -> None:
    """Write a series as DICOM files, numbered against the order of their places."""
    folder.mkdir(exist_ok=True)
    study, series, frame = (generate_uid() for _ in range(3))
    for number, (plane, image) in enumerate(zip(body.planes, body.images, strict=True)):
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.InstanceNumber = len(body.planes) - number
        ds.ImagePositionPatient = [round(x, 4) for x in plane.position]
        ds.ImageOrientationPatient = [round(x, 6) for x in plane.orientation]
        ds.PixelSpacing = [round(x, 6) for x in plane.spacing]
        ds.Rows, ds.Columns = image.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
        ds.PixelData = image.tobytes()
        ds["PixelData"].VR = "OW"
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    count: Annotated[int, typer.Option(help="Series.")] = 120,
    first: Annotated[int, typer.Option(help="Seed of the first.")] = 0,
    planted: PlantedName = "loss",
) -> None:
    """Write synthetic series."""
    print(write(out, count, first, PLANTED[planted]))
