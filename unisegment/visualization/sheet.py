# SPDX-License-Identifier: Apache-2.0
"""An image and several predictions in, the image and their drawings side by side with a legend out."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw

from unisegment.visualization.colors import distinct_colors
from unisegment.visualization.drawables import Drawable, Picture, open_picture, segments_of
from unisegment.visualization.drawing import SMALLEST_PICTURE, draw_segments, lettering_of, resize
from unisegment.visualization.fonts import Lettering

_LARGEST_PANEL = 1024
"""Pixels of the long side, above which an image is shrunk."""
_TITLE_SIZE, _LEGEND_SIZE, _MARGIN, _GAP = 26, 20, 32, 20
_INK, _PAPER = (30, 32, 38), (255, 255, 255)


def draw_sheet(
    image: Picture,
    predictions: Mapping[str, Drawable],
    id2label: Mapping[int, str] | None = None,
    opacity: float = 0.55,
    font: str | Path | None = None,
) -> Image.Image:
    """Show the image and several drawings of it side by side, with titles above and the colours of the labels below.

    Args:
        image: As in `draw`.
        predictions: What to draw beside it, by title.
        id2label: As in `draw`.
        opacity: As in `draw`.
        font: As in `draw`.

    Raises:
        ValueError: As `draw` does.
        OSError: As `draw` does.
    """
    original, lettering = open_picture(image), lettering_of(font)
    longest = max(original.size)
    scale = max(SMALLEST_PICTURE // longest, 1) if longest <= _LARGEST_PANEL else _LARGEST_PANEL / longest
    size = (round(original.height * scale), round(original.width * scale))
    panels = [("image", resize(original, size))]
    legend: dict[int, str] = {}
    for title, prediction in predictions.items():
        segments = segments_of(prediction)
        panels.append((title, draw_segments(original, segments, id2label, opacity, size, lettering)))
        legend |= dict(segments.labels_and_names(id2label))
    legible = {label: lettering.legible(legend[label], label) for label in sorted(legend)}
    return _sheet(panels, legible, lettering)


def _sheet(panels: list[tuple[str, Image.Image]], legend: Mapping[int, str], lettering: Lettering) -> Image.Image:
    width, height = panels[0][1].size
    sheet_width = len(panels) * (width + _GAP) - _GAP + 2 * _MARGIN
    top = _MARGIN + round(1.6 * _TITLE_SIZE)
    places, legend_bottom = _legend_places(legend, sheet_width, top + height + _MARGIN, lettering)
    sheet = Image.new("RGB", (sheet_width, legend_bottom + _MARGIN), _PAPER)
    canvas = ImageDraw.Draw(sheet)
    for number, (title, panel) in enumerate(panels):
        left = _MARGIN + number * (width + _GAP)
        canvas.text((left, _MARGIN), title, fill=_INK, font=lettering.font(title, _TITLE_SIZE), anchor="lt")
        sheet.paste(panel, (left, top))
    colors = distinct_colors(max(legend, default=0) + 1)
    for label, (left, row) in places.items():
        box = (left, row, left + _LEGEND_SIZE, row + _LEGEND_SIZE)
        canvas.rounded_rectangle(box, radius=_LEGEND_SIZE // 5, fill=tuple(colors[label].tolist()))
        middle = (left + 1.5 * _LEGEND_SIZE, row + _LEGEND_SIZE / 2)
        font = lettering.font(legend[label], _LEGEND_SIZE)
        canvas.text(middle, legend[label], fill=_INK, font=font, anchor="lm")
    return sheet


def _legend_places(
    legend: Mapping[int, str], width: int, top: int, lettering: Lettering
) -> tuple[dict[int, tuple[int, int]], int]:
    """Return the left and top of each entry, laid out line by line, and the bottom of the last line."""
    places, left = {}, _MARGIN
    for label, name in legend.items():
        length = round(3 * _LEGEND_SIZE + lettering.font(name, _LEGEND_SIZE).getlength(name))
        if left > _MARGIN and left + length > width - _MARGIN:
            left, top = _MARGIN, top + round(1.8 * _LEGEND_SIZE)
        places[label] = (left, top)
        left += length
    return places, top + _LEGEND_SIZE
