# SPDX-License-Identifier: Apache-2.0
"""Names and colours in, a strip of paper that tells which is which out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from unisegment.visualization.colors import Color
from unisegment.visualization.fonts import Lettering, letter_size
from unisegment.visualization.painting import hatch, stripes

INK, PAPER = (30, 32, 38), (255, 255, 255)
_NARROWEST = 320
"""Pixels in which names of a legend can be read, however narrow the picture is."""


@dataclass(frozen=True)
class Entry:
    """One line of a legend: a name and its colour, None for void."""

    name: str
    color: Color | None


def draw_legend(entries: Sequence[Entry], width: int, size: int, lettering: Lettering) -> Image.Image:
    """Return a strip of paper of this width with all entries, in as many lines as they take.

    Args:
        entries: What to show, in this order.
        width: Width of the strip in pixels.
        size: Height of the letters in pixels.
        lettering: The fonts.
    """
    places: list[tuple[int, int, str]] = []
    left, top = 0, 0
    for entry in entries:
        name = lettering.shortened(entry.name, size, width - 2 * size)
        length = round(1.5 * size + lettering.font(name, size).getlength(name))
        if left > 0 and left + length > width:
            left, top = 0, top + round(1.8 * size)
        places.append((left, top, name))
        left += length + round(1.3 * size)
    strip = Image.new("RGB", (width, top + size + 2 if entries else 0), PAPER)
    canvas = ImageDraw.Draw(strip)
    for (left, top, name), entry in zip(places, entries, strict=True):
        if entry.color is None:
            void = hatch(np.full((size, size), 128, np.float32), stripes((size, size))).astype(np.uint8)
            strip.paste(Image.fromarray(void), (left, top))
        else:
            canvas.rounded_rectangle((left, top, left + size, top + size), radius=size // 5, fill=entry.color)
        font = lettering.font(name, size)
        canvas.text((left + 1.5 * size, top + size / 2), name, fill=INK, font=font, anchor="lm")
    return strip


def with_legend(picture: Image.Image, entries: Sequence[Entry], lettering: Lettering) -> Image.Image:
    """Return a picture with its legend on white paper below."""
    margin = size = letter_size(picture.size)
    width = max(picture.width, _NARROWEST)
    legend = draw_legend(entries, width - 2 * margin, size, lettering)
    paper = Image.new("RGB", (width, picture.height + legend.height + 2 * margin), PAPER)
    paper.paste(picture, (0, 0))
    paper.paste(legend, (margin, picture.height + margin))
    return paper
