"""Saliency maps as pictures: the image as the network saw it, with the map in colour over it.

What a picture shows is said below it, in words that give no estimate away and name nobody.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_ai_node.types import ExplainedImage, SaliencyMap, SaliencyMethod

PANEL = 512
"""Side of one image in a picture."""
BAND = 96
"""Height of the lines below the images."""
WARNING = "RESEARCH - NOT A MEDICAL DEVICE"
_BAR = 12
_MARGIN = 12
_OPACITY = 0.6
_WHITE, _GREY = (255, 255, 255), (190, 190, 190)
_METHODS = {SaliencyMethod.GRAD_CAM: "Grad-CAM", SaliencyMethod.SCORE_CAM: "Score-CAM"}
_SHOWN = {"quantity": "what raises the estimate"}
"""By the kind of the head."""

_ANCHORS = "440154 472d7b 3b528b 2c728e 21908c 27ad81 5dc863 aadc32 fde725"
"""Nine points of viridis (van der Walt and Smith 2015, CC0)."""


@cache
def colours() -> NDArray[np.uint8]:
    """Return the colour of each value 0 to 255, shape (256, 3): viridis between nine points.

    Its lightness rises evenly, also to eyes that lack the red or the green cones, and in grey.
    """
    anchors = np.array([list(bytes.fromhex(each)) for each in _ANCHORS.split()])
    places = np.linspace(0, 255, len(anchors))
    channels = [np.interp(np.arange(256), places, anchors[:, i]) for i in range(3)]
    table: NDArray[np.uint8] = np.stack(channels, axis=1).round().astype(np.uint8)
    return table


def overlay(pixels: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (S, S) ``pixels`` under the map ``values``, both in [0, 1]: shape (S, S, 3).

    The opacity of the colour rises with the map from nothing, so that what counts for nothing is
    the plain image.
    """
    grey = np.clip(pixels, 0, 1)[..., None] * 255
    colour = colours()[np.clip(values * 255, 0, 255).round().astype(np.uint8)]
    opacity = np.clip(values, 0, 1)[..., None] * _OPACITY
    mixed: NDArray[np.uint8] = (grey * (1 - opacity) + colour * opacity).round().astype(np.uint8)
    return mixed


def picture(explained: ExplainedImage) -> NDArray[np.uint8]:
    """Return the maps of one image side by side, shape (PANEL + BAND, PANEL * maps, 3)."""
    page = Image.new("RGB", (PANEL * len(explained.maps), PANEL + BAND))
    draw = ImageDraw.Draw(page)
    for number, one in enumerate(explained.maps):
        left = number * PANEL
        panel = Image.fromarray(overlay(explained.pixels, one.values))
        page.paste(panel.resize((PANEL, PANEL), Image.Resampling.BILINEAR), (left, 0))
        page.paste(Image.fromarray(_bar()), (left, PANEL))
        at = (left + _MARGIN, PANEL + _BAR + 4)
        draw.text(at, _caption(one), _GREY, ImageFont.load_default(20))
        if not one.flat:  # below the bar's yellow end
            end = (left + PANEL - _MARGIN, PANEL + _BAR + 4)
            draw.text(end, "most", _GREY, ImageFont.load_default(20), anchor="ra")
    draw.text((_MARGIN, PANEL + BAND - 40), WARNING, _WHITE, ImageFont.load_default(24))
    return np.asarray(page, dtype=np.uint8)


def _caption(one: SaliencyMap) -> str:
    shown = _SHOWN.get(one.kind, "what speaks for the answer")
    if one.flat:
        shown = "flat: nothing stands out"
    return f"{one.head}, {_METHODS[one.method]}: {shown}"


def _bar() -> NDArray[np.uint8]:
    """Return the scale of colours from 0 to 1, shape (_BAR, PANEL, 3)."""
    row = colours()[np.linspace(0, 255, PANEL).round().astype(np.uint8)]
    return np.repeat(row[None], _BAR, axis=0)
