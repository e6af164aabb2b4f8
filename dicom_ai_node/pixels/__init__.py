"""From files to the inputs of the networks; pure but for reading the files."""

from dicom_ai_node.pixels.contracts import CONTRACTS, SQUARE, WINDOWS, Contract
from dicom_ai_node.pixels.file import read_header
from dicom_ai_node.pixels.frame import GreyFrame, Shown, grey, read_frame
from dicom_ai_node.pixels.functional_groups import frames_of
from dicom_ai_node.pixels.inputs import load, show, show_all, show_series
from dicom_ai_node.pixels.normalise import CONTRACT, normalise
from dicom_ai_node.pixels.order import Ordered, in_order, read_sample
from dicom_ai_node.pixels.pictures import grey_from_picture, is_picture, load_picture
from dicom_ai_node.pixels.refusals import RADIOGRAPHY, Accepted, RefusalCode, refuse_unfit

__all__ = [
    "CONTRACT",
    "CONTRACTS",
    "RADIOGRAPHY",
    "SQUARE",
    "WINDOWS",
    "Accepted",
    "Contract",
    "GreyFrame",
    "Ordered",
    "RefusalCode",
    "Shown",
    "frames_of",
    "grey",
    "grey_from_picture",
    "in_order",
    "is_picture",
    "load",
    "load_picture",
    "normalise",
    "read_frame",
    "read_header",
    "read_sample",
    "refuse_unfit",
    "show",
    "show_all",
    "show_series",
]
