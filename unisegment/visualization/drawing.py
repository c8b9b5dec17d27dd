# SPDX-License-Identifier: Apache-2.0
"""An image and its segments in, one picture of both out.

All is drawn on the grid of the picture, which is larger than a small image so that names can be read.
"""

from collections.abc import Mapping
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from PIL import Image
from scipy.ndimage import maximum_filter

from unisegment.ops.masks import segment_areas, segment_index_map, segment_index_maps
from unisegment.structures import SegmentationTarget
from unisegment.types import Size
from unisegment.visualization.colors import segment_colors
from unisegment.visualization.drawables import Drawable, Picture, Segments, open_picture, segments_of
from unisegment.visualization.fonts import Lettering
from unisegment.visualization.names import write_names

SMALLEST_PICTURE = 640
"""Pixels of the long side, below which an image is enlarged."""
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def draw(
    image: Picture,
    prediction: Drawable,
    id2label: Mapping[int, str] | None = None,
    opacity: float = 0.55,
    font: str | Path | None = None,
) -> Image.Image:
    """Colour and outline the segments, and name those that are large enough to carry their name.

    The colour tells the label; segments of the same label have shades of it. Void is left as it is.

    Args:
        image: The image that was segmented. Files and images of Pillow are turned upright as their EXIF data say.
        prediction: What was found, or is to be found, on the pixel grid of the image; transformers' own results, too.
        id2label: Name of each label. Otherwise segments have the name that comes with them, or their label's number.
        opacity: Strength of the colours, in [0, 1].
        font: File of a font for the names. Otherwise, and for names that it lacks characters of, one of the system that
            has them is looked for; a name that none can write is the label's number.

    Returns:
        A picture of the size of the image, or a whole number of times larger when the image is small.

    Raises:
        ValueError: When `image` or `font` is none, or `prediction` is none or has another size.
        OSError: When the file of the image cannot be opened.
    """
    original = open_picture(image)
    factor = max(SMALLEST_PICTURE // max(original.size), 1)
    size = (original.height * factor, original.width * factor)
    return draw_segments(original, segments_of(prediction), id2label, opacity, size, lettering_of(font))


def lettering_of(font: str | Path | None) -> Lettering:
    """Return the fonts to write with, one of which a user may have chosen."""
    return Lettering(None if font is None else str(Path(font).expanduser()))


def draw_segments(
    original: Image.Image,
    segments: Segments,
    id2label: Mapping[int, str] | None,
    opacity: float,
    size: Size,
    lettering: Lettering,
) -> Image.Image:
    """Draw segments at any size; see `draw`."""
    target = segments.target
    if target.size != (original.height, original.width):
        raise ValueError(
            f"prediction is {target.size[0]}x{target.size[1]} (height x width), but the image is "
            f"{original.height}x{original.width}: give post-processing the image's size in target_sizes."
        )
    index_map = _resize_nearest(_index_map(target), size)
    picture = _paint(np.asarray(resize(original, size)), index_map, segment_colors(target.labels.tolist()), opacity)
    names = [
        lettering.legible(name, label) + (" (crowd)" if is_crowd else "")
        for (label, name), is_crowd in zip(segments.labels_and_names(id2label), target.is_crowd.tolist(), strict=True)
    ]
    write_names(picture, index_map, names, segments.scores, lettering)
    return picture


def _index_map(target: SegmentationTarget) -> Int64[np.ndarray, "h w"]:
    if target.masks is None and target.layers is None:
        return segment_index_map(target).numpy()
    # Segments may overlap: small ones come last, so that they are not hidden.
    order = segment_areas(target).argsort(descending=True, stable=True)
    # The last rank is that of void, whose index is -1 in both directions.
    order, ranks = torch.cat([order, order.new_tensor([-1])]), torch.cat([order.argsort(), order.new_tensor([-1])])
    tops = (ranks[index_map] for index_map in segment_index_maps(target))
    return order[reduce(torch.maximum, tops)].numpy()


def _resize_nearest(index_map: Int64[np.ndarray, "_ _"], size: Size) -> Int64[np.ndarray, "h w"]:
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(index_map.shape, size, strict=True)
    )
    return index_map[rows[:, None], columns]


def resize(image: Image.Image, size: Size) -> Image.Image:
    """Return an image at a size given as height and width."""
    return image.resize((size[1], size[0]), Image.Resampling.LANCZOS)


def _paint(
    image: UInt8[np.ndarray, "h w 3"],
    index_map: Int64[np.ndarray, "h w"],
    colors: UInt8[np.ndarray, "n 3"],
    opacity: float,
) -> Image.Image:
    # The last row is for void, which has the index -1 and is not painted.
    colors = np.concatenate([colors, np.zeros((1, 3), np.uint8)])
    # Colours are laid over grey, so that they look as in the legend.
    grey = image @ _LUMA
    painted = grey[..., None] * np.float32(1 - opacity) + colors[index_map] * np.float32(opacity)
    painted[index_map == -1] = image[index_map == -1]
    outline = _outline(index_map)
    painted[outline] = 0.45 * painted[outline] + 0.55 * 255
    return Image.fromarray(painted.round().astype(np.uint8))


def _outline(index_map: Int64[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels on both sides of the borders between segments."""
    outline = np.zeros(index_map.shape, dtype=np.bool_)
    for axis in (0, 1):
        before, after = (np.moveaxis(outline, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        differs = np.diff(index_map, axis=axis) != 0
        before |= np.moveaxis(differs, axis, 0)
        after |= np.moveaxis(differs, axis, 0)
    return maximum_filter(outline, size=max(max(index_map.shape) // 800, 1))
