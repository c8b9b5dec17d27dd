# SPDX-License-Identifier: Apache-2.0
"""Samples and images in, small pictures out, of image and target side by side, and one sheet of them all."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from unisegment.data.problems import Box
from unisegment.structures import Sample, SegmentationTarget
from unisegment.types import Size
from unisegment.visualization import draw
from unisegment.visualization.fonts import Lettering

_LONGEST_SIDE, _GAP, _TEXT = 360, 12, 16
_COLUMNS = 2
_INK, _PAPER = (30, 32, 38), (255, 255, 255)
_FRAME, _FRAME_INK = 4, (255, 0, 170)
_QUALITY = 88


def draw_tile(sample: Sample, id2label: Mapping[int, str], boxes: Sequence[Box] = ()) -> bytes:
    """Return a sample and its target side by side, small, as a JPEG file.

    Args:
        sample: The sample.
        id2label: Names of the labels.
        boxes: What to draw a frame around.
    """
    image, size = _small(sample.image)
    drawn = draw(image, _shrunk(sample.target, size), id2label, min_side=_LONGEST_SIDE)
    return _to_jpeg(_beside([_framed(picture, sample.image.shape, boxes) for picture in (image, drawn)]))


def draw_image(image: UInt8[np.ndarray, "h w 3"], boxes: Sequence[Box] = ()) -> bytes:
    """Return an image without a target, small, as a JPEG file, with frames around boxes."""
    return _to_jpeg(_framed(_small(image)[0], image.shape, boxes))


def draw_contact_sheet(tiles: Sequence[tuple[str, bytes]]) -> bytes:
    """Return all tiles with their names on one sheet, as a JPEG file.

    Args:
        tiles: Name and JPEG file of each; there is at least one.
    """
    pictures = [(name, Image.open(io.BytesIO(tile))) for name, tile in tiles]
    cell = (2 * _LONGEST_SIDE + _GAP // 2, _LONGEST_SIDE + 2 * _TEXT)
    rows = -(-len(pictures) // _COLUMNS)
    columns = min(_COLUMNS, len(pictures))
    sheet = Image.new("RGB", (columns * (cell[0] + _GAP) + _GAP, rows * (cell[1] + _GAP) + _GAP), _PAPER)
    canvas, lettering = ImageDraw.Draw(sheet), Lettering()
    for number, (path, picture) in enumerate(pictures):
        name = Path(path).name.encode("utf-8", "replace").decode()
        row, column = divmod(number, _COLUMNS)
        left, top = _GAP + column * (cell[0] + _GAP), _GAP + row * (cell[1] + _GAP)
        font = lettering.font(name, _TEXT)
        canvas.text((left, top), _fitting(name, font, cell[0]), fill=_INK, font=font)
        sheet.paste(picture, (left, top + 2 * _TEXT))
    return _to_jpeg(sheet)


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    while text and font.getlength(text) > width:
        text = text[1:]
    return text


def _small(image: UInt8[np.ndarray, "h w 3"]) -> tuple[Image.Image, Size]:
    height, width = image.shape[:2]
    scale = min(1, _LONGEST_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS), size


def _framed(picture: Image.Image, shape: Sequence[int], boxes: Sequence[Box]) -> Image.Image:
    """Return a picture of an image at the size of a tile, with frames around boxes in pixels of the image."""
    scale = _LONGEST_SIDE / max(picture.size)
    panel = picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS)
    canvas = ImageDraw.Draw(panel)
    scales = np.divide(panel.size, (shape[1], shape[0]))
    for box in boxes:
        # Around the object and not on it; what reaches out of the image has its frame at the edge.
        around = np.add(np.multiply(box, (*scales, *scales)), (-_FRAME, -_FRAME, _FRAME, _FRAME))
        corners = around.clip(0, np.subtract((*panel.size, *panel.size), 1)).round().tolist()
        canvas.rectangle(corners, outline=_PAPER, width=_FRAME)
        canvas.rectangle(corners, outline=_FRAME_INK, width=_FRAME // 2)
    return panel


def _beside(panels: Sequence[Image.Image]) -> Image.Image:
    width, height = panels[0].size
    tile = Image.new("RGB", (2 * width + _GAP // 2, height), _PAPER)
    for number, panel in enumerate(panels):
        tile.paste(panel, (number * (width + _GAP // 2), 0))
    return tile


def _shrunk(target: SegmentationTarget, size: tuple[int, int]) -> SegmentationTarget:
    rows, columns = (
        torch.from_numpy((2 * np.arange(new) + 1) * old // (2 * new))
        for old, new in zip(target.size, size, strict=True)
    )
    grid: dict[str, Any] = {
        name: None if pixels is None else pixels[..., rows[:, None], columns]
        for name, pixels in (("id_map", target.id_map), ("masks", target.masks))
    }
    return replace(target, **grid)


def _to_jpeg(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
