# SPDX-License-Identifier: Apache-2.0
"""Samples in, small pictures of image and target side by side out, and one sheet of them all."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from unisegment.structures import Sample, SegmentationTarget
from unisegment.visualization import draw
from unisegment.visualization.fonts import Lettering

_LONGEST_SIDE, _GAP, _TEXT = 360, 12, 16
_COLUMNS = 2
_INK, _PAPER = (30, 32, 38), (255, 255, 255)
_QUALITY = 88


def draw_tile(sample: Sample, id2label: Mapping[int, str]) -> bytes:
    """Return a sample and its target side by side, small, as a JPEG file."""
    height, width = sample.image.shape[:2]
    scale = min(1, _LONGEST_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    image = Image.fromarray(sample.image).resize(size[::-1], Image.Resampling.LANCZOS)
    drawn = draw(image, _shrunk(sample.target, size), id2label, min_side=_LONGEST_SIDE)
    panel = (round(size[1] * _LONGEST_SIDE / max(size)), round(size[0] * _LONGEST_SIDE / max(size)))
    panel = (max(1, panel[0]), max(1, panel[1]))
    tile = Image.new("RGB", (2 * panel[0] + _GAP // 2, panel[1]), _PAPER)
    tile.paste(image.resize(panel, Image.Resampling.LANCZOS), (0, 0))
    tile.paste(drawn.resize(panel, Image.Resampling.LANCZOS), (panel[0] + _GAP // 2, 0))
    return _to_jpeg(tile)


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
