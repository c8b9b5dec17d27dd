# SPDX-License-Identifier: Apache-2.0
"""An image and several predictions in, the image and their drawings side by side with a legend out."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from unisegment.structures import InstancePrediction, SegmentationTarget
from unisegment.visualization.colors import Palette
from unisegment.visualization.drawables import Drawable, Picture, open_picture, segments_of
from unisegment.visualization.drawing import Style, draw_segments, legend_entries, lettering_of, resize
from unisegment.visualization.errors import draw_compared
from unisegment.visualization.fonts import Lettering
from unisegment.visualization.legend import INK, PAPER, Entry, draw_legend

_PANEL = 640
"""Pixels of the longer side of each drawing."""
_TEXT_SCALE = 1.3
_TITLE_SIZE, _LEGEND_SIZE, _MARGIN, _GAP = 28, 24, 28, 20


def draw_sheet(
    image: Picture,
    predictions: Mapping[str, Drawable],
    id2label: Mapping[int, str] | None = None,
    opacity: float = 0.6,
    font: str | Path | None = None,
    *,
    palette: Palette = "natural",
    scores: bool = False,
    target: SegmentationTarget | None = None,
    thing_label_ids: Collection[int] | None = None,
) -> Image.Image:
    """Show the image and several drawings of it side by side, with titles above and the colours of the labels below.

    Up to three stand in one line. All are 640 pixels on their longer side.

    Args:
        image: As in `draw`.
        predictions: What to draw beside it, by title.
        id2label: As in `draw`.
        opacity: As in `draw`.
        font: As in `draw`.
        palette: As in `draw`.
        scores: As in `draw`.
        target: The annotation. It is shown last, with the errors of the last prediction behind it, see `draw_errors`.
        thing_label_ids: Labels that are things, which alone are compared of an instance prediction; None compares all.

    Raises:
        ValueError: As `draw` does.
        OSError: As `draw` does.
    """
    original = open_picture(image)
    style = Style(lettering_of(font), palette, opacity, scores, _TEXT_SCALE)
    scale = _PANEL / max(original.size)
    size = (max(round(original.height * scale), 1), max(round(original.width * scale), 1))
    shown = {title: segments_of(prediction) for title, prediction in predictions.items()}
    if target is not None:
        shown["annotation"] = segments_of(target)
    drawn = [draw_segments(original, segments, id2label, size, style) for segments in shown.values()]
    panels = [("image", resize(original, size)), *zip(shown, (picture for picture, _ in drawn), strict=True)]
    legends = [legend_entries(list(shown.values()), any(has_void for _, has_void in drawn), id2label, style)]
    if target is not None and predictions:
        title, prediction = list(predictions.items())[-1]
        compared = thing_label_ids if isinstance(prediction, InstancePrediction) else None
        picture, errors = draw_compared(
            original, prediction, target, id2label, compared, size, style.lettering, _TEXT_SCALE
        )
        panels.append((f"{title}: errors", picture))
        legends.append(errors)
    return _sheet(panels, legends, style.lettering)


def _sheet(
    panels: Sequence[tuple[str, Image.Image]], legends: Sequence[Sequence[Entry]], lettering: Lettering
) -> Image.Image:
    width, height = panels[0][1].size
    columns = min(len(panels), 3) if len(panels) != 4 else 2
    title_height = round(1.5 * _TITLE_SIZE)
    cell = (max(width, _PANEL // 2) + _GAP, height + title_height + _GAP)
    sheet_width = columns * cell[0] - _GAP + 2 * _MARGIN
    bottom = _MARGIN + -(-len(panels) // columns) * cell[1]
    strips = [draw_legend(entries, sheet_width - 2 * _MARGIN, _LEGEND_SIZE, lettering) for entries in legends]
    sheet = Image.new("RGB", (sheet_width, bottom + sum(strip.height + _GAP for strip in strips) + _GAP), PAPER)
    for strip in strips:
        sheet.paste(strip, (_MARGIN, bottom))
        bottom += strip.height + _GAP
    canvas = ImageDraw.Draw(sheet)
    for number, (title, panel) in enumerate(panels):
        row, column = divmod(number, columns)
        left, top = _MARGIN + column * cell[0], _MARGIN + row * cell[1]
        text = lettering.shortened(title, _TITLE_SIZE, cell[0] - _GAP)
        baseline = (left, top + round(0.8 * _TITLE_SIZE))
        canvas.text(baseline, text, fill=INK, font=lettering.font(text, _TITLE_SIZE), anchor="ls")
        sheet.paste(panel, (left, top + title_height))
    return sheet
