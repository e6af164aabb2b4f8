"""The ``[limits]`` table: what a single object may take of memory and time."""

from pydantic import Field

from dicom_ai_node.config.table import Table
from dicom_ai_node.dicom.limits import DEFAULT, Limits


class LimitsSettings(Table):
    """``[limits]``: what is read of one object; what goes beyond is refused, and says the key."""

    header_bytes: int = Field(
        DEFAULT.header_bytes, ge=65536, le=1 << 30, description="Bytes before the pixel data."
    )
    element_bytes: int = Field(
        DEFAULT.element_bytes,
        ge=65536,
        le=1 << 30,
        description="Bytes of one value before the pixel data, sequences aside.",
    )
    elements: int = Field(
        DEFAULT.elements,
        ge=1000,
        le=10_000_000,
        description="Data elements and sequence items before the pixel data, nested ones too. "
        "100000 take the analyser some 130 MB.",
    )
    depth: int = Field(DEFAULT.depth, ge=4, le=64, description="Sequences within each other.")
    pixels: int = Field(
        DEFAULT.pixels,
        ge=1_000_000,
        le=500_000_000,
        description="Rows x Columns of an image, in its header and in its codestream. The largest "
        "radiographs have some 36 million.",
    )
    decoded_bytes: int = Field(
        DEFAULT.decoded_bytes,
        ge=1 << 20,
        le=2 << 30,
        description="Bytes of an image's pixels when decoded: Rows x Columns x samples of 8 or 16 "
        "bits. JPEG 2000 takes up to five times as much while it is decoded.",
    )

    @property
    def bounds(self) -> Limits:
        """The limits as the readers take them."""
        return Limits(**self.model_dump())
