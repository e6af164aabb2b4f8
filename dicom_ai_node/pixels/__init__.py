"""From a file to the square grey image that the networks see; pure but for reading the file."""

from dicom_ai_node.pixels.file import read_header
from dicom_ai_node.pixels.frame import GreyFrame, Shown, grey, load, read_frame, show
from dicom_ai_node.pixels.normalise import CONTRACT, normalise
from dicom_ai_node.pixels.pictures import grey_from_picture, is_picture, load_picture
from dicom_ai_node.pixels.refusals import RADIOGRAPHY, Accepted, RefusalCode, refuse_unfit

__all__ = [
    "CONTRACT",
    "RADIOGRAPHY",
    "Accepted",
    "GreyFrame",
    "RefusalCode",
    "Shown",
    "grey",
    "grey_from_picture",
    "is_picture",
    "load",
    "load_picture",
    "normalise",
    "read_frame",
    "read_header",
    "refuse_unfit",
    "show",
]
